"""Workflows survive: a killed worker, a wait that outlasts it, children on other workers; nothing is done twice."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, connect
from tailplane.client import Client, State, Task
from tailplane.client.rewinds import Accumulated
from tailplane.control_plane.parked import MIND_EVERY
from tailplane.deploy.child import Child
from tailplane.deploy.cluster import LocalCluster, Plan
from tests.integration.durable_workflows import LETTERS, Approval, errands, written
from tests.integration.scheduling_plane import set_clock

pytestmark = [pytest.mark.process]

WORKFLOWS = Path(__file__).with_name("durable_workflows.py")
KILLS = 20
PATIENCE = 60.0


@contextlib.asynccontextmanager
async def _cluster(concurrency: int = 8, **env: str) -> AsyncIterator[LocalCluster]:
    # A lease as short as a loaded machine bears: a lost worker is found out sooner.
    settings = {"TAILPLANE_LEASE": "1.5s", "TAILPLANE_RENEW_EVERY": "0.4s", "TAILPLANE_PARK_AFTER": "0.3s", **env}
    plan = Plan(target=str(WORKFLOWS), workers=2, concurrency=concurrency, env=settings)
    kind = _ClockedCluster if "CLOCK_FILE" in env else LocalCluster
    running = await asyncio.to_thread(kind(plan).start)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.stop)


class _ClockedCluster(LocalCluster):
    """A cluster whose control planes go by the clock of a file."""

    def _control_plane(self, index: int, port: int) -> Child:
        plane = super()._control_plane(index, port)
        plane._command = (sys.executable, "-P", str(Path(__file__).with_name("scheduling_plane.py")))
        return plane


def _notes(folder: Path) -> list[str]:
    notes = folder / "notes"
    return notes.read_text().splitlines() if notes.exists() else []


async def _until(condition: Any, patience: float = PATIENCE) -> None:
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.02)


async def _until_state(task: Task, state: State) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await task.status()).state != state:
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_a_worker_that_is_killed_in_the_fourth_step_twenty_times_over(tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    async with _cluster() as cluster, Client(cluster.url) as client:
        task = await client.run_workflow("five_steps", {"folder": str(tmp_path), "deaths": KILLS})
        for number in range(1, KILLS + 1):
            await _until(lambda number=number: sum(line.startswith("pid ") for line in _notes(tmp_path)) == number)
            pid = int(_notes(tmp_path)[-1].removeprefix("pid "))
            index = [child.pid for child in cluster.workers].index(pid)
            os.kill(pid, signal.SIGKILL)
            # The other one takes over; this one comes back meanwhile.
            cluster.workers[index].wait(PATIENCE)
            cluster.workers[index].start()
        result = await task.result(timeout=PATIENCE)
        reference = await client.run_workflow("five_steps", {"folder": str(undisturbed), "deaths": 0})
        assert result == await reference.result(timeout=PATIENCE)
        ran = Counter(line for line in _notes(tmp_path) if line.startswith("step "))
        assert ran == {"step 1": 1, "step 2": 1, "step 3": 1, "step 4": KILLS + 1, "step 5": 1}
        # What the finished steps and the body wrote was written once, not only shown once; all else is step 4's.
        events = [event async for event in task.events()]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        written = Counter(event.data for event in events if event.kind == "workflow")
        once = ["begin ", "end", *(f"{n}{letter} " for n in (1, 2, 3, 5) for letter in LETTERS)]
        once += [f"({n}) " for n in range(1, 6)]
        assert {text: written[text] for text in once} == dict.fromkeys(once, 1)
        assert written.keys() - set(once) == {f"4{letter} " for letter in LETTERS}
        # Each death took back what that attempt had shown of step 4, and nothing before it.
        (begun,) = [e.seq for e in events if e.type == "task.step_started" and e.data["step"] == "write 4"]
        rewinds = [event.data for event in events if event.type == "task.rewind"]
        assert {rewind["reason"] for rewind in rewinds} <= {"worker_lost"}
        assert all(rewind["to"] >= begun for rewind in rewinds)
        assert await task.text() == await reference.text()
        accumulated = Accumulated()
        for event in events:
            accumulated.add(event)
        assert "".join(event.data for event in accumulated.events) == await reference.text()
        steps = await task.steps()
        assert [(step.name, step.ended_at is not None) for step in steps] == [(f"write {n}", True) for n in range(1, 6)]
        status = await task.status()
        assert status.attempt == KILLS + 1


async def test_a_parked_approval_frees_its_slot_outlives_its_worker_and_is_answered_an_hour_later(
    tmp_path: Path,
) -> None:
    clock = tmp_path / "clock"
    # The clock of the control plane's timers, which is asked for each look; the workers' is the server's.
    set_clock(clock, int(time.time() * 1000))
    async with _cluster(concurrency=1, CLOCK_FILE=str(clock)) as cluster, Client(cluster.url) as client:
        task = await client.run_workflow("approval", str(tmp_path))
        await _until_state(task, State.WAITING)
        async with asyncio.timeout(PATIENCE):
            while any(worker.running for worker in await client.workers()):
                await asyncio.sleep(0.02)
        pid = int(_notes(tmp_path)[0].removeprefix("draft "))
        index = [child.pid for child in cluster.workers].index(pid)
        # Its slot is free for others: each worker has a single one, and two tasks that wait for each other take both.
        assert [worker.concurrency for worker in await client.workers()] == [1, 1]
        there = tmp_path / "there"
        there.mkdir()
        pair = [await client.run_workflow("meet", {"folder": str(there), "count": 2}) for _ in range(2)]
        assert {await each.result(timeout=PATIENCE) for each in pair} == {child.pid for child in cluster.workers}
        cluster.kill_worker(index)
        set_clock(clock, int((time.time() + 3600) * 1000))
        # A whole look at the parked later: an hour is less than it waits for.
        broker = _broker(cluster)
        (parked,) = await broker.parking.page(0, 10)
        await asyncio.sleep(2 * MIND_EVERY.total_seconds())
        assert await broker.parking.are_parked([parked]) == [True]
        key = "one answer"
        number = await client.send_event(task.task_id, Approval(approved=True), idempotency_key=key)
        assert number == await client.send_event(task.task_id, Approval(approved=True), idempotency_key=key)
        assert await task.result(timeout=PATIENCE) == {"text": "DRAFT", "approved": True}
        other = cluster.workers[1 - index].pid
        assert _notes(tmp_path) == [f"draft {pid}", f"publish {other}"]
        assert await task.collect() == ["drafted ", "may I? ", "published"]
        # And one that nobody answers is brought back when its time has come, by the same clock.
        late = await client.run_workflow("approval", str(tmp_path))
        await _until_state(late, State.WAITING)
        set_clock(clock, int((time.time() + 3 * 3600) * 1000))
        async with asyncio.timeout(PATIENCE):
            while (await late.status()).attempt < 2:
                await asyncio.sleep(0.02)
        await late.cancel()
        await broker.redis.aclose(close_connection_pool=True)


def _broker(cluster: LocalCluster) -> Broker:
    day = timedelta(days=1)
    return Broker.over(connect(cluster.redis_url, Redis), prefix="tailplane", retention=day, start_within=day)


async def test_children_run_on_all_workers_and_are_cancelled_with_their_parent() -> None:
    async with _cluster() as cluster, Client(cluster.url) as client:
        tree = await client.run_workflow("forest", 2)
        tasks: list[Any] = []
        async with asyncio.timeout(PATIENCE):
            # One, two, four, and four leaves.
            while len(tasks := [task async for task in client.tasks()]) < 11:
                await asyncio.sleep(0.05)
        flat = await client.run_workflow("fan_out", 6)
        assert await flat.result(timeout=PATIENCE) == sum(range(6))
        shown = await flat.collect()
        assert (shown[0], shown[-1]) == ("begin", "end")
        assert sorted(shown[1:-1]) == [f"leaf {number}" for number in range(6)]
        assert await flat.collect(channel="leaf 3") == ["leaf 3"]
        begun = time.monotonic()
        assert (await tree.cancel("enough")).state == State.CANCELLED
        took = time.monotonic() - begun
        states = Counter([(await client.task(task.task_id).status()).state for task in tasks])
        assert states == {State.CANCELLED: 11}, took
        assert len({worker.worker_id for worker in await client.workers()}) == 2
        assert cluster.workers[0].is_running


@pytest.mark.slow
async def test_workers_that_are_killed_at_any_time_lose_and_double_nothing(tmp_path: Path) -> None:
    draw = random.Random(11)
    async with _cluster() as cluster, Client(cluster.url) as client, asyncio.TaskGroup() as group:
        tasks = {
            seed: await client.run_workflow("errand", {"folder": str(tmp_path), "seed": seed}) for seed in range(24)
        }
        for seed, task in tasks.items():
            group.create_task(_answer(task, seed, draw.uniform(0, 6)))
        for _ in range(8):
            await asyncio.sleep(draw.uniform(0.2, 1.2))
            worker = cluster.workers[draw.randrange(2)]
            worker.kill()
            worker.wait(PATIENCE)
            worker.start()
        async with asyncio.timeout(2 * PATIENCE):
            results = {seed: await task.result() for seed, task in tasks.items()}
        for seed, task in tasks.items():
            events = [event async for event in task.events()]
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            accumulated = Accumulated()
            for event in events:
                accumulated.add(event)
            shown: dict[str | None, list[str]] = {None: []}
            for event in accumulated.events:
                shown.setdefault(event.channel, []).append(event.data)
            assert shown == written(seed), (seed, task.task_id)
            assert len(results[seed]) >= len(errands(seed))
            # One who asks what is superseded is told the same.
            ranges = (await task.status()).superseded
            left = [e.seq for e in events if e.kind == "workflow" and not any(a <= e.seq <= b for a, b in ranges)]
            assert left == [event.seq for event in accumulated.events]
        attempts = [(await task.status()).attempt for task in tasks.values()]
        assert max(attempts) > 1


async def _answer(task: Task, seed: int, after: float) -> None:
    """Answer all that a task of that seed will ask, each twice, before it asks or while it waits."""
    await asyncio.sleep(after)
    for number, (kind, _) in enumerate(errands(seed)):
        if kind == "ask":
            for _ in range(2):
                await task.send_event(number, type=f"answer {number}", idempotency_key=f"key {number}")
