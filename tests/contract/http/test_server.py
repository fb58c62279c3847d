"""The server around the application: streams do not keep it from stopping, and a signal ends it in good order."""

import asyncio
import os
import signal
import time
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tailplane.broker import WorkerRecord, WorkflowRecord
from tailplane.control_plane import Settings, create_app
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.metrics import registry
from tailplane.control_plane.server import Server
from tailplane.protocol.ids import new_worker_id


class Running:
    """A server with the application, in this loop."""

    def __init__(self, settings: Settings) -> None:
        self.app: FastAPI = create_app(settings)
        self.server = Server(self.app, settings)
        self.serving = asyncio.create_task(self.server.serve())

    async def url(self) -> str:
        while not self.server.started:
            assert not self.serving.done()
            await asyncio.sleep(0.01)
        host, port = self.server.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def register(self) -> None:
        echo = WorkflowRecord("echo", "1", "", {}, None, 1, None)
        worker = WorkerRecord(new_worker_id(), "host-1", 1, "0", ["echo"], 1, 0)
        settings = self.app.state.services.settings
        await self.app.state.services.broker.queue.register(worker, [echo], settings.retention)


@pytest.fixture
def free_port(settings: Settings) -> Settings:
    return settings.model_copy(update={"port": 0})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_streams_and_waits_then_the_server(free_port: Settings, number: signal.Signals) -> None:
    running = Running(free_port)
    async with httpx2.AsyncClient(base_url=await running.url(), timeout=30) as http:
        await running.register()
        async with http.stream("POST", "/v1/workflows/echo/stream", json=1) as stream:
            chunks: Any = stream.aiter_raw()
            assert await anext(chunks)
            wait = asyncio.create_task(http.get(f"{stream.headers['location']}/result?wait=60"))
            await asyncio.wait({wait}, timeout=0.2)
            started = time.monotonic()

            os.kill(os.getpid(), number)
            rest = [chunk async for chunk in chunks]
            answered = await wait
            await asyncio.wait_for(running.serving, 30)

    assert (stream.status_code, answered.status_code) == (200, 202)
    assert b"".join(rest) is not None
    # Well before the grace for responses that do not end.
    assert time.monotonic() - started < free_port.drain_grace.total_seconds() / 2


async def test_a_server_that_leaves_is_not_ready_and_serves_for_a_while(free_port: Settings) -> None:
    running = Running(free_port.model_copy(update={"drain_delay": timedelta(minutes=5)}))
    async with httpx2.AsyncClient(base_url=await running.url(), timeout=30) as http:
        await running.register()
        async with http.stream("POST", "/v1/workflows/echo/stream", json=1) as stream:
            chunks: Any = stream.aiter_raw()
            assert await anext(chunks)
            assert (await http.get("/readyz")).status_code == 200
            metrics = registry(running.app)
            assert metrics.get_sample_value("tailplane_ready") == 1
            os.kill(os.getpid(), signal.SIGTERM)
            while (ready := await http.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
            assert metrics.get_sample_value("tailplane_ready") == 0
            # What was sent meanwhile is taken, on a new connection too.
            async with httpx2.AsyncClient(base_url=str(http.base_url), timeout=30) as other:
                taken = await other.post("/v1/tasks", json={"workflow": "echo", "input": 1})
            assert not running.app.state.drain.is_set()
            # As a second signal does, for as long as it takes to end the while.
            running.server.force_exit = True
            await asyncio.wait_for(running.app.state.drain.wait(), 30)
            running.server.force_exit = False
            async for _ in chunks:
                pass
            await asyncio.wait_for(running.serving, 30)

    assert (ready.status_code, ready.json()["code"], taken.status_code) == (503, "unavailable", 202)


async def test_the_while_for_which_a_server_that_leaves_serves_has_an_end(free_port: Settings) -> None:
    running = Running(free_port.model_copy(update={"drain_delay": timedelta(seconds=0.3)}))
    await running.url()

    running.server.should_exit = True
    await asyncio.wait_for(running.serving, 30)

    assert running.app.state.drain.is_set()


async def test_the_answer_names_no_server(free_port: Settings) -> None:
    running = Running(free_port)
    async with httpx2.AsyncClient(base_url=await running.url(), timeout=30) as http:
        response = await http.get("/healthz")
    running.server.should_exit = True
    await running.serving

    assert "server" not in response.headers
    assert response.headers["content-type"] == "application/json"


async def test_a_body_over_the_limit_is_answered_while_it_is_sent(free_port: Settings) -> None:
    running = Running(free_port)
    body = b" " * (8 * free_port.max_body_bytes)
    async with httpx2.AsyncClient(base_url=await running.url(), timeout=30) as http:
        response = await http.post("/v1/tasks", content=body, headers={"Content-Type": "application/json"})
        after = await http.get("/healthz")
    running.server.should_exit = True
    await running.serving

    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert after.status_code == 200


async def test_a_server_whose_background_work_failed_stops(
    free_port: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Hub) -> None:
        raise RuntimeError("a fault in the hub")

    monkeypatch.setattr(Hub, "run", fail)
    running = Running(free_port)

    await asyncio.wait_for(running.serving, 30)

    assert running.server.lost_its_app
