"""A failover to a replica that lacks the last events: the worker still has them, and sends them again.

The replica is let go by hand before the last events are written, so that what is missing is known; and the sentinel is
told who the primary is, as it would find out by itself where the two had merely lost each other.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tailplane.broker import connect
from tailplane.client import Client
from tailplane.deploy.embedded import EmbeddedServer
from tests.sentinel_process import SERVICE, SentinelProcess

from .watched_store import cluster_on, follow, until_all_have

pytestmark = [pytest.mark.process, pytest.mark.slow]

EVENTS = 200
TASKS = 10
# Of each task: those that the replica has, and how many more its readers have seen when the primary dies.
REPLICATED, MORE = EVENTS // 2, 20


@dataclass
class Pair:
    """A primary, its replica, and a sentinel that finds nothing by itself."""

    primary: EmbeddedServer
    replica: EmbeddedServer
    sentinel: SentinelProcess

    @property
    def url(self) -> str:
        """The URL that names the sentinel."""
        return f"redis+sentinel://{self.sentinel.address}/{SERVICE}"

    async def let_the_replica_go(self) -> None:
        """Return when the replica has all that the primary was sent before, and gets nothing more."""
        primary, replica = connect(self.primary.url, Redis), connect(self.replica.url, Redis)
        await primary.set("last", b"")
        assert await primary.wait(1, 5000) == 1
        await replica.execute_command("REPLICAOF", "NO", "ONE")
        for each in (primary, replica):
            await each.aclose(close_connection_pool=True)

    def fail_over(self) -> None:
        """Kill the primary; the former replica takes its place."""
        self.primary.kill()
        self.sentinel.monitor(self.replica.port)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(EmbeddedServer())
        following = {"replicaof": ("127.0.0.1", str(primary.port))}
        replica = stack.enter_context(EmbeddedServer(config=following))
        sentinel = stack.enter_context(SentinelProcess(down_after_ms=600_000))
        sentinel.monitor(primary.port)
        yield Pair(primary, replica, sentinel)


async def test_events_that_the_new_primary_lacks_are_seen_once_all_the_same(pair: Pair, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    async with cluster_on(pair.url) as cluster, Client(cluster.url) as client:
        given = {"n": EVENTS, "path": str(go_on), "pause": 0.05}
        tasks = [await client.run_workflow("count_in_halves", given) for _ in range(TASKS)]
        seen: list[list[object]] = [[] for _ in tasks]
        following = [
            asyncio.ensure_future(follow(client, task.task_id, each)) for task, each in zip(tasks, seen, strict=True)
        ]
        await until_all_have(seen, REPLICATED)
        await pair.let_the_replica_go()
        go_on.touch()
        # Acknowledged by the primary, and shown to readers: only the replica has never heard of them.
        await until_all_have(seen, REPLICATED + MORE)
        await asyncio.to_thread(pair.fail_over)
        async with asyncio.timeout(90):
            await asyncio.gather(*following)
        for task, each in zip(tasks, seen, strict=True):
            assert each == list(range(EVENTS))
            again: list[object] = []
            await follow(client, task.task_id, again)
            assert again == list(range(EVENTS))
            status = await task.status()
            assert (status.state, status.attempt) == ("succeeded", 1)
