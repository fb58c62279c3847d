"""Tailplane with its defaults on its embedded server: one control plane, one worker, its own Python client."""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import workloads
from benchmarks.limits import CONCURRENCY
from benchmarks.system import Client, Emit, RawStream, Servers, Started

NAME = "tailplane"
WORKLOADS = frozenset(workloads.NAMES)

_ROOT = Path(__file__).parents[2]
_WORKFLOWS = "benchmarks.systems.tailplane_workflows"
# What the platform says before a workflow's first event: task.queued and task.started.
_PLATFORM_EVENTS = 2
_ACCEPT = {"SSE": ("text/event-stream", "json"), "msgpack": ("application/vnd.tailplane.frames+msgpack", "msgpack")}


class TailplaneServers(Servers):
    """A local cluster with persistence, as `tailplane dev` has it."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self) -> Started:
        from tailplane.deploy.cluster import LocalCluster, Plan

        data = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._stack.callback(shutil.rmtree, data, ignore_errors=True)
        plan = Plan(target=_WORKFLOWS, concurrency=CONCURRENCY, data_dir=data, cwd=_ROOT)
        cluster = self._stack.enter_context(LocalCluster(plan))
        pids = {
            "control plane": [child.pid for child in cluster.control_planes],
            "worker": [child.pid for child in cluster.workers],
            "redis": [cluster.server.pid],
        }
        return Started({"url": cluster.url}, pids, cluster.redis_url)

    def stop(self) -> None:
        self._stack.close()


class TailplaneClient(Client):
    """One session of `tailplane.client.Client`."""

    async def open(self, address: dict[str, Any]) -> None:
        from tailplane.client import Client as OurClient

        self._where = urlsplit(address["url"])
        self._stack = AsyncExitStack()
        client = await self._stack.enter_async_context(OurClient(address["url"]))
        self._session = await self._stack.enter_async_context(client.start_session())

    async def close(self) -> None:
        await self._stack.aclose()

    async def submit(self, emit: Emit) -> str:
        task = await self._session.run_workflow("emit", asdict(emit))
        return task.task_id

    async def events(self, task: str, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
        stream = self._stream(task, after)
        try:
            while True:
                try:
                    batch = await stream.take()
                except StopAsyncIteration:
                    return
                yield batch
        finally:
            await stream.aclose()

    async def each(self, task: str, note: Callable[[dict[str, Any]], None], after: int = 0) -> None:
        async for event in self._stream(task, after):
            note(event)

    async def run(self, value: Any) -> Any:
        task = await self._session.run_workflow("echo", value)
        return await task.result()

    def streams(self, task: str) -> dict[str, RawStream]:
        host, port = self._where.hostname, self._where.port
        return {
            name: RawStream(
                host,
                port,
                f"GET /v1/tasks/{task}/events HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n".encode(),
                form,
            )
            for name, (accept, form) in _ACCEPT.items()
        }

    def _stream(self, task: str, after: int) -> Any:
        return self._session.get_task_result_stream(task, start=after + _PLATFORM_EVENTS if after else "start")


def make_servers() -> Servers:
    return TailplaneServers()


def make_client() -> Client:
    return TailplaneClient()


def prepare() -> str:
    return sys.executable
