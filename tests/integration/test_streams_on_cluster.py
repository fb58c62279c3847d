"""Streams on a Redis Cluster while its slots move and its shards fail over: each event once, in order.

The queue is on a server of its own. All tasks stream during what is done to the shards.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tailplane.broker import Keys, TaskRef
from tailplane.broker.slots import slot_of
from tailplane.client import Client, Task
from tailplane.deploy.child import tailplane_command
from tailplane.deploy.cluster import LocalCluster, Plan
from tests.redis_cluster import RedisCluster, until

from .conftest import WORKFLOWS
from .watched_store import follow, until_all_have

pytestmark = [pytest.mark.process, pytest.mark.slow]

EVENTS = 200
TASKS = 12


@pytest.fixture(scope="module")
def shards() -> Iterator[RedisCluster]:
    with RedisCluster() as running:
        yield running


@pytest.fixture(scope="module")
def cluster(shards: RedisCluster) -> Iterator[LocalCluster]:
    """A queue on a server of its own, a control plane and two workers."""
    plan = Plan(target=str(WORKFLOWS), workers=2, env={"TAILPLANE_STREAMS_URL": shards.url})
    with LocalCluster(plan) as running:
        yield running


class Watchers:
    """Tasks that stream, and what their readers have seen."""

    def __init__(self, client: Client, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.seen: list[list[object]] = [[] for _ in tasks]
        self._client = client
        self._following = [
            asyncio.ensure_future(follow(client, task.task_id, each))
            for task, each in zip(tasks, self.seen, strict=True)
        ]

    async def until_all_have(self, count: int) -> None:
        await until_all_have(self.seen, count)

    async def see_all_once(self) -> None:
        async with asyncio.timeout(90):
            await asyncio.gather(*self._following)
        for task, each in zip(self.tasks, self.seen, strict=True):
            written = await task.result(timeout=30)
            assert written >= EVENTS
            assert each == list(range(written))
            # What a reader sees who comes now: each event once in the stream.
            again: list[object] = []
            await follow(self._client, task.task_id, again)
            assert again == each
            status = await task.status()
            assert (status.state, status.attempt) == ("succeeded", 1)


@contextlib.asynccontextmanager
async def streaming(cluster: LocalCluster, path: Path, until: Path | None = None) -> AsyncIterator[Watchers]:
    """Tasks that write their first half now, and the second when `path` exists, and go on until `until` does."""
    pids = [child.pid for child in (*cluster.control_planes, *cluster.workers)]
    async with Client(cluster.url) as client:
        given = {"n": EVENTS, "path": str(path), "pause": 0.02, "until": until and str(until)}
        tasks = [await client.run_workflow("count_in_halves", given) for _ in range(TASKS)]
        yield Watchers(client, tasks)
        # New tasks run, and nobody has ended.
        assert await (await client.run_workflow("count", {"n": 3})).result(timeout=30) == 3
    assert [child.pid for child in (*cluster.control_planes, *cluster.workers)] == pids
    assert all(child.is_running for child in (*cluster.control_planes, *cluster.workers))


async def test_slots_that_move_while_their_tasks_stream_cost_nothing(
    cluster: LocalCluster, shards: RedisCluster, tmp_path: Path
) -> None:
    go_on, moved = tmp_path / "go-on", tmp_path / "moved"
    # They move while events are written, however long that takes.
    async with streaming(cluster, go_on, moved) as watchers:
        await watchers.until_all_have(EVENTS // 2)
        go_on.touch()
        keys = [Keys().task(TaskRef(task.task_id)) for task in watchers.tasks]
        await asyncio.to_thread(move_all, shards, keys)
        moved.touch()
        await watchers.see_all_once()


def move_all(shards: RedisCluster, keys: Sequence[str]) -> None:
    """Move the slot of each of these keys to another primary, with its keys one by one."""
    primaries = shards.primaries()
    slots = {node: shards.slots_of(node) for node in primaries}
    for key in keys:
        slot = slot_of(key)
        source = next(node for node in primaries if slot in slots[node])
        target = primaries[(primaries.index(source) + 1) % len(primaries)]
        shards.begin_to_move(slot, source, target)
        for moving in shards.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            shards.ask(source, "MIGRATE", "127.0.0.1", target.port, moving, 0, 5000)
        shards.move_keys(slot, source, target)
        shards.end_move(slot, source, target)


async def all_is_replicated(shards: RedisCluster) -> None:
    for node in shards.primaries():
        assert await asyncio.to_thread(shards.ask, node, "WAIT", 1, 5000) == 1


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_shard_whose_primary_dies_or_hangs_costs_no_event_and_the_others_no_time(
    cluster: LocalCluster, shards: RedisCluster, tmp_path: Path, end: signal.Signals
) -> None:
    go_on = tmp_path / "go-on"
    async with streaming(cluster, go_on) as watchers:
        await watchers.until_all_have(EVENTS // 2)
        # Nothing is written now, so that a loss would be one of ours. (`test_failover_with_loss` has the other case.)
        victim = shards.owner(Keys().task(TaskRef(watchers.tasks[0].task_id)))
        others = [
            seen
            for task, seen in zip(watchers.tasks, watchers.seen, strict=True)
            if shards.owner(Keys().task(TaskRef(task.task_id))) is not victim
        ]
        await all_is_replicated(shards)
        assert victim.pid is not None
        os.kill(victim.pid, end)
        go_on.touch()
        # The living shards' tasks end long before the other one is there again: that takes its timeout at the least.
        await until_all_have(others, EVENTS)
        await watchers.see_all_once()
        assert shards.owner(Keys().task(TaskRef(watchers.tasks[0].task_id))) is not victim
    victim.kill()
    victim.start()
    await asyncio.to_thread(until, shards.is_whole, "the former primary follows")


async def test_a_failover_by_hand_costs_nothing(cluster: LocalCluster, shards: RedisCluster, tmp_path: Path) -> None:
    go_on, taken_over = tmp_path / "go-on", tmp_path / "taken-over"
    async with streaming(cluster, go_on, taken_over) as watchers:
        await watchers.until_all_have(EVENTS // 2)
        go_on.touch()
        before = shards.primaries()
        for node in [node for node in shards.nodes if node not in before]:
            shards.ask(node, "CLUSTER", "FAILOVER")
        await asyncio.to_thread(
            until, lambda: not set(shards.primaries()) & set(before), "all replicas have taken over"
        )
        taken_over.touch()
        await watchers.see_all_once()
    await asyncio.to_thread(until, shards.is_whole, "the former primaries follow")


async def test_the_tasks_of_a_shard_that_is_away_leave_their_places_to_others(tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    plan = Plan(target=str(WORKFLOWS), workers=1, concurrency=2)
    with RedisCluster(has_replicas=False, persist=True) as shards:
        plan = dataclasses.replace(plan, env={"TAILPLANE_STREAMS_URL": shards.url})
        with LocalCluster(plan) as cluster:
            async with Client(cluster.url) as client:
                busy = [await client.run_workflow("count_in_halves", {"n": 2, "path": str(go_on)}) for _ in range(2)]
                # Two places, both taken; what comes now waits in the queue, in turn.
                owners = {shards.owner(Keys().task(TaskRef(task.task_id))) for task in busy}
                victim = next(node for node in shards.primaries() if node not in owners)
                tasks = [await client.run_workflow("count", {"n": 3}) for _ in range(30)]
                mine = [task for task in tasks if shards.owner(Keys().task(TaskRef(task.task_id))) is victim]
                others = [task for task in tasks if task not in mine]
                assert len(mine) >= 2
                victim.kill()
                go_on.touch()
                async with asyncio.timeout(60):
                    assert [await task.result() for task in others] == [3] * len(others)
                # New ones are not put there, and readers of what is there are told.
                late = [await client.run_workflow("count", {"n": 3}) for _ in range(10)]
                async with asyncio.timeout(60):
                    assert [await task.result() for task in late] == [3] * 10
                victim.start()
                async with asyncio.timeout(60):
                    assert [await task.result() for task in mine] == [3] * len(mine)
                assert [(await task.status()).attempt for task in mine] == [1] * len(mine)


async def test_tasks_of_a_queue_that_was_lost_are_run_again(
    cluster: LocalCluster, shards: RedisCluster, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    env = os.environ | {"TAILPLANE_REDIS_URL": cluster.redis_url, "TAILPLANE_STREAMS_URL": shards.url}

    async def reconcile(*options: str) -> dict[str, Any]:
        command = [*tailplane_command("reconcile", "--json", *options)]
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        found: dict[str, Any] = json.loads(said)
        return found

    async with streaming(cluster, go_on) as watchers:
        await watchers.until_all_have(20)
        wanted = {task.task_id for task in watchers.tasks}
        # Their workers notice that they have no lease any more, and begin anew.
        await asyncio.to_thread(lambda: Redis.from_url(cluster.redis_url).flushall())
        looked_at = await reconcile("--dry-run")
        assert {stray["task_id"] for stray in looked_at["strays"]} == wanted
        mended = await reconcile()
        assert {stray["task_id"] for stray in mended["strays"]} == wanted
        go_on.touch()
        async with asyncio.timeout(90):
            collected = await asyncio.gather(*(task.collect() for task in watchers.tasks))
        assert collected == [list(range(EVENTS))] * TASKS
        # And now there is nothing to mend.
        assert (await reconcile())["strays"] == []
