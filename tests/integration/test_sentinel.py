"""A cluster behind three sentinels: the primary is killed in the middle of streams, and the replica takes its place."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from tailplane.broker import connect
from tailplane.client import Client
from tailplane.deploy.embedded import EmbeddedServer
from tests.sentinel_process import SERVICE, SentinelProcess, until

from .watched_store import cluster_on, follow, until_all_have

pytestmark = [pytest.mark.process, pytest.mark.slow]

EVENTS = 200
TASKS = 10


@dataclass
class Watched:
    """A primary, its replica, and three sentinels that agree on it."""

    primary: EmbeddedServer
    replica: EmbeddedServer
    sentinels: list[SentinelProcess]

    @property
    def url(self) -> str:
        """The URL that names the sentinels."""
        return f"redis+sentinel://{','.join(each.address for each in self.sentinels)}/{SERVICE}/0"

    def is_agreed(self) -> bool:
        """Whether each sentinel knows the replica and the other two, and finds nothing wrong."""
        states = [each.state() or {} for each in self.sentinels]
        return all(
            (state.get("flags"), state.get("num-slaves"), state.get("num-other-sentinels")) == ("master", 1, 2)
            for state in states
        )

    def is_promoted(self) -> bool:
        """Whether all sentinels name the former replica as the primary."""
        return {(each.state() or {}).get("port") for each in self.sentinels} == {self.replica.port}


@pytest.fixture
def watched() -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(EmbeddedServer())
        following = {"replicaof": ("127.0.0.1", str(primary.port)), "repl-diskless-sync-delay": 0}
        replica = stack.enter_context(EmbeddedServer(config=following))
        sentinels = [stack.enter_context(SentinelProcess()) for _ in range(3)]
        for each in sentinels:
            each.monitor(primary.port, quorum=2)
        found = Watched(primary, replica, sentinels)
        until(found.is_agreed, "the sentinels agree")
        yield found


async def all_is_replicated(server: EmbeddedServer) -> None:
    """Return when the replica has all that the server was sent before."""
    redis = connect(server.url, Redis)
    await redis.set("last", b"")
    assert await redis.wait(1, 5000) == 1
    await redis.aclose(close_connection_pool=True)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_primary_that_dies_or_hangs_costs_no_event_that_its_replica_has(
    watched: Watched, tmp_path: Path, end: signal.Signals
) -> None:
    go_on = tmp_path / "go-on"
    async with cluster_on(watched.url) as cluster, Client(cluster.url) as client:
        pids = [child.pid for child in (*cluster.control_planes, *cluster.workers)]
        tasks = [await client.run_workflow("count_in_halves", {"n": EVENTS, "path": str(go_on)}) for _ in range(TASKS)]
        seen: list[list[object]] = [[] for _ in tasks]
        following = [
            asyncio.ensure_future(follow(client, task.task_id, each)) for task, each in zip(tasks, seen, strict=True)
        ]
        await until_all_have(seen, EVENTS // 2)
        # Nothing is written now, so that nothing can be lost by replication.
        await all_is_replicated(watched.primary)
        pid = watched.primary.pid
        assert pid is not None
        os.kill(pid, end)
        # What is written before the replica is promoted waits for it.
        go_on.touch()
        async with asyncio.timeout(90):
            await asyncio.gather(*following)
        assert watched.is_promoted()
        for task, each in zip(tasks, seen, strict=True):
            assert each == list(range(EVENTS))
            # What a reader sees who comes now: each event once in the stream.
            again: list[object] = []
            await follow(client, task.task_id, again)
            assert again == list(range(EVENTS))
            assert (await task.status()).attempt == 1
        # New tasks run on the new primary.
        assert await (await client.run_workflow("count", {"n": 3})).result(timeout=30) == 3
        assert [child.pid for child in (*cluster.control_planes, *cluster.workers)] == pids
        assert all(child.is_running for child in (*cluster.control_planes, *cluster.workers))
    watched.primary.kill()


async def test_streams_go_on_when_the_former_primary_lives_and_becomes_a_replica(
    watched: Watched, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    async with cluster_on(watched.url) as cluster, Client(cluster.url) as client:
        task = await client.run_workflow("count_in_halves", {"n": EVENTS, "path": str(go_on)})
        seen: list[object] = []
        following = asyncio.ensure_future(follow(client, task.task_id, seen))
        await until_all_have([seen], EVENTS // 2)
        await all_is_replicated(watched.primary)
        watched.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
        await asyncio.to_thread(until, watched.is_promoted, "the replica is promoted")
        former = connect(watched.primary.url, Redis)
        role = b""
        async with asyncio.timeout(60):
            while role != b"slave":
                # The sentinels cut the connections of those who take it for the primary, this one too.
                with contextlib.suppress(ConnectionError):
                    role, *_ = await former.execute_command("ROLE")
                await asyncio.sleep(0.05)
        await former.aclose(close_connection_pool=True)
        go_on.touch()
        async with asyncio.timeout(60):
            await following
        assert seen == list(range(EVENTS))
        assert (await task.status()).attempt == 1
