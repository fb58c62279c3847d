"""The real application over the real embedded server. Each test has its own key prefix, and so its own deployment."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tailplane.broker import Begun, Broker, Closing, TaskRef, WorkerRecord, WorkflowRecord
from tailplane.control_plane import Settings, create_app
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol import codec
from tailplane.protocol.events import PlatformType, pack_event, pack_platform_event
from tailplane.protocol.ids import TaskId, WorkerId, new_worker_id
from tailplane.protocol.states import State, Trigger

LEASE = timedelta(minutes=10)
COUNT_SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def settings(valkey: EmbeddedServer) -> Settings:
    return Settings(
        redis_url=valkey.url, prefix=f"test-{uuid.uuid4().hex}", keep_alive=timedelta(seconds=0.2), auth="none"
    )


@pytest.fixture
def clock() -> Any:
    """What timers go by; tests that move it have one of their own."""
    return None


@pytest.fixture
async def app(settings: Settings, clock: Any) -> AsyncIterator[FastAPI]:
    app = create_app(settings, clock)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app) as client:
        yield client


class BoundedTransport(httpx2.ASGITransport):
    """Calls the application; a call that never ends (a stream where none is expected) fails. Waits take up to 60 s."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        async with asyncio.timeout(90):
            return await super().handle_async_request(request)


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=BoundedTransport(app=app), base_url="http://control-plane")


@pytest.fixture
def broker(app: FastAPI) -> Broker:
    broker: Broker = app.state.services.broker
    return broker


@dataclass
class Fleet:
    """One worker that does what the test says: registers, begins and ends attempts, or does nothing at all."""

    broker: Broker
    worker_id: WorkerId = field(default_factory=new_worker_id)

    async def register(self, lease: timedelta = LEASE, **schemas: dict[str, Any]) -> None:
        workflows = [
            WorkflowRecord(name, "7", f"The {name}.", schema, 1000, 3, None) for name, schema in schemas.items()
        ]
        worker = WorkerRecord(self.worker_id, "host-1", 42, "0.1.0", list(schemas), 10, started_at=0)
        await self.broker.queue.register(worker, workflows, lease)

    async def begin(self, task_id: str, workflow: str = "echo") -> Begun:
        """Take the task out of the queue and begin its next attempt."""
        claims = await self.broker.queue.claim(self.worker_id, 1, {workflow: 1})
        assert [claim.task.task_id for claim in claims.taken] == [task_id]
        return await self.broker.tasks.begin(TaskRef(TaskId(task_id)), self.worker_id, "host-1")

    async def end(
        self, begun: Begun, trigger: Trigger, result: object = None, error: dict[str, Any] | None = None
    ) -> State:
        """Write one event and end the attempt."""
        match trigger:
            case Trigger.SUCCEED:
                last = pack_platform_event(PlatformType.SUCCEEDED, {"result": result})
                fields: list[bytes | str] = ["result", codec.pack(result)]
            case Trigger.FAIL:
                last = pack_platform_event(PlatformType.FAILED, {"error": error})
                fields = ["error", codec.pack(error)]
            case _:
                last = pack_platform_event(PlatformType.CANCELLED, {"reason": None})
                fields = []
        closing = Closing(trigger, begun.attempt, begun.seq, [pack_event("working"), last], fields)
        return await self.broker.tasks.finish(begun.record.ref, closing)

    async def run(self, task_id: str, result: object = "done") -> None:
        """Run a queued task of the workflow `echo` to its good end."""
        await self.end(await self.begin(task_id), Trigger.SUCCEED, result)


@pytest.fixture
async def fleet(broker: Broker) -> Fleet:
    fleet = Fleet(broker)
    await fleet.register(echo={}, count=COUNT_SCHEMA)
    return fleet


Submit = Callable[..., Awaitable[str]]


@pytest.fixture
def submit(http: httpx2.AsyncClient, fleet: Fleet) -> Submit:
    """Submit a task of the workflow `echo`; return its id."""

    async def submit(workflow: str = "echo", **body: Any) -> str:
        response = await http.post("/v1/tasks", json={"workflow": workflow} | body)
        assert response.status_code == 202, response.text
        task_id: str = response.json()["task_id"]
        return task_id

    return submit
