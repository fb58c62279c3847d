"""What Redis can do to streams that are written and read: be full, be busy, forget its scripts, and be away.

None of it costs an event, or doubles one, or ends a process, or a response.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from tailplane.broker import connect
from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster, Plan

from .conftest import WORKFLOWS
from .one_response import OneResponse

pytestmark = [pytest.mark.process, pytest.mark.slow]

MEGABYTE = 1024 * 1024
# Seconds. Longer than a lease, and than stale leases are borne with afterwards.
LONG = 10.0


@dataclass
class Stage:
    """A cluster of its own, and tasks that stream on it."""

    cluster: LocalCluster
    client: Client
    http: httpx2.AsyncClient
    redis: Redis
    count: int = 0
    responses: list[OneResponse] = field(default_factory=list)
    _reading: list[asyncio.Task[None]] = field(default_factory=list)
    _pids: list[int | None] = field(default_factory=list)
    _task_ids: list[str] = field(default_factory=list)

    async def begin(self, tasks: int, count: int, pause: float) -> None:
        """Start tasks that count, read each in one response, and return when all are under way."""
        self.count, self._pids = count, self._processes()
        for _ in range(tasks):
            task = await self.client.run_workflow("count", {"n": count, "pause": pause})
            response = OneResponse()
            self._task_ids.append(task.task_id)
            self.responses.append(response)
            self._reading.append(asyncio.ensure_future(response.read(self.http, task.task_id)))
        async with asyncio.timeout(30):
            while any(len(response.seen) < 20 for response in self.responses):
                await asyncio.sleep(0.02)

    async def stands_still(self) -> None:
        """Return when nothing has been read for a second, and nobody was let go."""
        before: list[int] = []
        async with asyncio.timeout(30):
            while (now := [len(response.seen) for response in self.responses]) != before:
                before = now
                await asyncio.sleep(1)
        assert max(before) < self.count
        assert not any(reading.done() for reading in self._reading)

    async def refusal(self) -> httpx2.Response:
        """Return the answer to a submit, which is refused."""
        response = await self.http.post("/v1/tasks", json={"workflow": "count", "input": {"n": 1}})
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable"), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["retry-after"]) >= 1
        return response

    async def ends_well(self) -> None:
        """Return when all tasks have succeeded in their first attempt, each event seen once, by the same processes."""
        async with asyncio.timeout(90):
            await asyncio.gather(*self._reading)
        assert {response.last for response in self.responses} == {"task.succeeded"}
        for response in self.responses:
            assert response.seen == list(range(self.count))
        for task_id in self._task_ids:
            assert (await self.client.task(task_id).status()).attempt == 1
        assert self._processes() == self._pids

    def _processes(self) -> list[int | None]:
        children = (*self.cluster.control_planes, *self.cluster.workers)
        assert all(child.is_running for child in children)
        return [child.pid for child in children]


@contextlib.asynccontextmanager
async def stage(data_dir: Path | None = None) -> AsyncIterator[Stage]:
    cluster = LocalCluster(Plan(target=str(WORKFLOWS), workers=2, data_dir=data_dir))
    await asyncio.to_thread(cluster.start)
    redis = connect(cluster.redis_url, Redis)
    try:
        async with Client(cluster.url) as client, httpx2.AsyncClient(base_url=cluster.url, trust_env=False) as http:
            yield Stage(cluster, client, http, redis)
    finally:
        await redis.aclose(close_connection_pool=True)
        await asyncio.to_thread(cluster.stop)


async def test_a_full_store() -> None:
    async with stage() as it:
        await it.begin(tasks=5, count=600, pause=0.02)
        await it.redis.set("ballast", b"x" * 32 * MEGABYTE)
        # Far from what there is with the ballast, and from what there is without it.
        await it.redis.config_set("maxmemory", 16 * MEGABYTE)
        with pytest.raises(OutOfMemoryError):
            await it.redis.set("more", b"x")

        detail = (await it.refusal()).json()["detail"]
        await it.stands_still()
        await asyncio.sleep(LONG)
        await it.stands_still()
        await it.redis.delete("ballast")

        await it.ends_well()
    assert detail == "Redis takes nothing now: its memory is full (OOM)"


async def test_a_store_that_forgets_its_scripts_again_and_again() -> None:
    async with stage() as it:
        await it.begin(tasks=10, count=300, pause=0.02)
        for _ in range(40):
            await it.redis.script_flush("ASYNC")
            await asyncio.sleep(0.1)
        await it.ends_well()


async def test_a_store_that_is_busy_with_somebody_s_script() -> None:
    async with stage() as it:
        await it.begin(tasks=10, count=400, pause=0.02)
        await it.redis.config_set("busy-reply-threshold", 100)
        other = connect(it.cluster.redis_url, Redis)
        endless = asyncio.ensure_future(other.eval("while true do end", 0))
        await it.stands_still()
        detail = (await it.refusal()).json()["detail"]
        await asyncio.sleep(LONG / 2)
        # The connection that this goes over is a new one: also a busy server lets one ask for this.
        await it.redis.execute_command("SCRIPT", "KILL")
        await asyncio.gather(endless, return_exceptions=True)
        await other.aclose(close_connection_pool=True)
        await it.ends_well()
    assert detail == "Redis takes nothing now: it is busy with a script (BUSY)"


async def test_a_store_that_is_away_for_long_in_the_middle_of_fifty_streams(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        await it.begin(tasks=50, count=400, pause=0.05)
        # SIGTERM: it writes its append-only file out before it ends.
        await asyncio.to_thread(it.cluster.server.stop)
        await asyncio.sleep(LONG)
        await it.refusal()
        await asyncio.to_thread(it.cluster.server.start)
        await it.ends_well()
