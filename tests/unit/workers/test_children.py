"""Children: tasks that a workflow starts once, waits for, shows and takes along when it ends."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tailplane.broker import TaskRef, WorkerRecord
from tailplane.broker.catalogue import requeue_request
from tailplane.broker.inbox import Inbox
from tailplane.protocol import codec
from tailplane.protocol.errors import TaskFailed
from tailplane.protocol.ids import new_task_id
from tailplane.protocol.states import State
from tailplane.workers import Context, Workflow, inbox_watch
from tailplane.workers.attempt import Attempt, Stop
from tailplane.workers.family import Family
from tailplane.workers.open_children import OpenChildren

from .conftest import LEASE, PATIENCE, Bench, eventually
from .durability import Gate, lose, shown


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells these attempts of messages: a worker's own loop would."""
    monkeypatch.setattr(inbox_watch, "LOOK_EVERY", 0.02)


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A bench whose attempts are never parked."""
    return Bench(replace(bench.platform, park_after=timedelta(hours=1)))


async def known(bench: Bench, *workflows: Workflow) -> None:
    """Let workflows be known in the deployment."""
    me = WorkerRecord(bench.platform.worker, "host-1", 1, "0", [], 1, started_at=0)
    await bench.broker.queue.register(me, [each.record() for each in workflows], LEASE)


async def children_of(bench: Bench, task: TaskRef) -> list[TaskRef]:
    """Return all tasks but that one."""
    ids = await bench.broker.catalogue.task_ids(task.tenant, None, None, 100)
    return [TaskRef(each) for each in ids if each != task.task_id]


def begins(attempt: Attempt) -> "asyncio.Task[None]":
    return asyncio.ensure_future(attempt.run())


async def doubled(ctx: Context, number: int) -> int:
    for part in range(number):
        ctx.write_event_to_stream(f"{number}.{part}")
    return 2 * number


async def test_a_child_is_a_task_of_its_own_and_gives_its_result(bench: Bench) -> None:
    async def parent(ctx: Context) -> object:
        return [await ctx.run_child("doubled", 2), await ctx.run_child("doubled", 3)]

    child, workflow = bench.workflow(doubled), bench.workflow(parent)
    await known(bench, child, workflow)
    task = await bench.submit(workflow)
    running = begins(await bench.attempt(workflow))
    for _ in range(2):
        await bench.run(child)
    await asyncio.wait_for(running, PATIENCE)
    assert (await bench.record(task)).result == codec.pack([4, 6])
    made = await children_of(bench, task)
    assert [(await bench.record(each)).parent for each in made] == [(task.task_id, 1)] * 2
    assert await shown(bench, task) == []


@pytest.mark.parametrize("is_parked", [False, True])
async def test_a_child_is_started_once_however_many_attempts_its_parent_takes(bench: Bench, is_parked: bool) -> None:
    ran = Counter[str]()

    async def child(ctx: Context) -> str:
        ran["child"] += 1
        return "from the child"

    async def parent(ctx: Context) -> object:
        ran["parent"] += 1
        return await ctx.run_child("child")

    if is_parked:
        bench = Bench(replace(bench.platform, park_after=timedelta(milliseconds=50)))
    inner, workflow = bench.workflow(child), bench.workflow(parent)
    await known(bench, inner, workflow)
    task = await bench.submit(workflow)
    if is_parked:
        attempt = await bench.attempt(workflow)
        await asyncio.wait_for(attempt.run(), PATIENCE)
        assert (await bench.record(task)).state is State.WAITING
    else:
        for number in (1, 2):
            attempt = await bench.attempt(workflow)
            running = begins(attempt)
            async with asyncio.timeout(PATIENCE):
                while ran["parent"] < number or not await children_of(bench, task):
                    await asyncio.sleep(0.005)
            attempt.stop(Stop.LOST)
            await asyncio.wait_for(running, PATIENCE)
            assert ran["parent"] == number
            await bench.broker.queue.reap(bench.platform.worker, leaves=True)
            await known(bench, inner, workflow)
    await bench.run(inner)
    await bench.run(workflow)
    record = await bench.record(task)
    assert (record.state, record.result) == (State.SUCCEEDED, codec.pack("from the child"))
    assert ran["child"] == 1
    assert len(await children_of(bench, task)) == 1


async def test_a_child_that_fails_fails_its_parent_unless_that_goes_on(bench: Bench) -> None:
    gate = Gate()

    async def child(ctx: Context) -> None:
        raise ValueError("no")

    async def parent(ctx: Context) -> str:
        try:
            await ctx.run_child("child")
        except TaskFailed as error:
            said = f"{error.error_type} {error.message}"

        async def note() -> None: ...

        await ctx.step(note)
        await gate.pass_or_hang()
        return said

    inner, workflow = bench.workflow(child), bench.workflow(parent)
    await known(bench, inner, workflow)
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    losing = asyncio.ensure_future(lose(bench, attempt, lambda: gate.arrivals >= 1))
    await bench.run(inner)
    await asyncio.wait_for(losing, PATIENCE)
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack("builtins.ValueError no")
    assert len(await children_of(bench, task)) == 1


async def test_a_child_that_fails_is_a_dead_letter(bench: Bench) -> None:
    async def child(ctx: Context) -> None:
        raise ValueError("bad")

    async def parent(ctx: Context) -> None:
        await ctx.run_child("child")

    inner, workflow = bench.workflow(child), bench.workflow(parent)
    await known(bench, inner, workflow)
    task = await bench.submit(workflow)
    running = begins(await bench.attempt(workflow))
    await bench.run(inner)
    await asyncio.wait_for(running, PATIENCE)
    (made,) = await children_of(bench, task)
    letters = await bench.broker.catalogue.dead_letter_ids(task.tenant, None, 10)
    assert set(letters) == {task.task_id, made.task_id}
    assert await bench.broker.queue.made_by(task.tenant, requeue_request(made.task_id, timedelta(days=1))) is None


async def test_another_attempt_tries_a_failed_child_anew(bench: Bench) -> None:
    ran = Counter[str]()

    async def child(ctx: Context) -> str:
        ran["child"] += 1
        if ran["child"] == 1:
            raise OSError("away")
        return "now"

    async def parent(ctx: Context) -> object:
        return await ctx.run_child("child")

    inner, workflow = bench.workflow(child), bench.workflow(parent, retries=1, retry_delay=0.001)
    await known(bench, inner, workflow)
    task = await bench.submit(workflow)
    for _ in range(2):
        running = begins(await bench.attempt(workflow))
        await bench.run(inner)
        await asyncio.wait_for(running, PATIENCE)
    assert (await bench.record(task)).result == codec.pack("now")
    assert len(await children_of(bench, task)) == 2


class TestCancelling:
    async def test_a_parent_that_ends_takes_its_children_along(self, bench: Bench) -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def child(ctx: Context) -> None:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.Event().wait()

        async def parent(ctx: Context) -> None:
            waiting = asyncio.ensure_future(ctx.gather(ctx.run_child("child"), ctx.run_child("child")))
            while not begun.is_set():
                await asyncio.sleep(0.005)
            waiting.cancel()
            raise ValueError("enough")

        inner, workflow = bench.workflow(child), bench.workflow(parent)
        await known(bench, inner, workflow)
        task = await bench.submit(workflow)
        running = begins(await bench.attempt(workflow))
        attempt = await bench.attempt(inner)
        child_running = begins(attempt)
        await asyncio.wait_for(running, PATIENCE)
        assert (await bench.record(task)).state is State.FAILED
        # One waits in the queue: it is ended at once. One runs: its worker is told, and a worker that hears nothing
        # finds out when it begins it again.
        states = Counter([(await bench.record(each)).state for each in await children_of(bench, task)])
        assert states == {State.CANCELLED: 1, State.RUNNING: 1}
        attempt.stop(Stop.LOST)
        await asyncio.wait_for(child_running, PATIENCE)
        await bench.broker.queue.reap(bench.platform.worker, leaves=True)
        await known(bench, inner, workflow)
        await bench.run(inner)
        states = Counter([(await bench.record(each)).state for each in await children_of(bench, task)])
        assert states == {State.CANCELLED: 2}

    @pytest.mark.parametrize("why", ["out of time", "lost too often", "nobody's"])
    async def test_a_parent_that_ends_where_it_would_begin_takes_them_along(self, bench: Bench, why: str) -> None:
        async def child(ctx: Context) -> None: ...

        async def parent(ctx: Context) -> None:
            await ctx.run_child("child")

        inner, workflow = bench.workflow(child), bench.workflow(parent, total_timeout=timedelta(minutes=1))
        await known(bench, inner, workflow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        async with asyncio.timeout(PATIENCE):
            while not (made := await children_of(bench, task)):
                await asyncio.sleep(0.005)
        attempt.stop(Stop.LOST)
        await asyncio.wait_for(running, PATIENCE)
        await bench.broker.queue.reap(bench.platform.worker, leaves=True)
        await known(bench, inner, workflow)
        fields: dict[str, dict[str, Any]] = {
            "out of time": {"end_by": 1},
            "lost too often": {"failures": 9},
            "nobody's": {"parent": codec.pack([new_task_id(), 1])},
        }
        await bench.broker.redis.hset(bench.broker.keys.task(task), mapping=fields[why])  # type: ignore[misc]
        await bench.run(workflow)
        assert (await bench.record(task)).state.is_terminal
        assert (await bench.record(made[0])).state is State.CANCELLED
        assert await bench.places(made[0], inner) == []

    async def test_a_child_that_was_cancelled_is_told_to_its_parent(self, bench: Bench) -> None:
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        async def child(ctx: Context) -> None:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.Event().wait()

        async def parent(ctx: Context) -> None:
            await ctx.run_child("child")

        inner, workflow = bench.workflow(child), bench.workflow(parent)
        await known(bench, inner, workflow)
        task = await bench.submit(workflow)
        running = begins(await bench.attempt(workflow))
        attempt = await bench.attempt(inner)
        child_running = begins(attempt)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        attempt.stop(Stop.CANCELLED, "enough")
        await asyncio.wait_for(child_running, PATIENCE)
        await asyncio.wait_for(running, PATIENCE)
        error = (await bench.record(task)).error
        assert error is not None
        assert error["type"].endswith("TaskCancelled")


class TestMerging:
    async def test_what_a_child_writes_is_shown_while_it_writes(self, bench: Bench) -> None:
        gate, loop, let_go = Gate(losses=0), asyncio.get_running_loop(), asyncio.Event()

        async def child(ctx: Context) -> None:
            ctx.write_event_to_stream("first")
            ctx.write_event_to_stream("aside", channel="log")
            while not let_go.is_set():
                await asyncio.sleep(0.005)
            ctx.write_event_to_stream("second")

        async def parent(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            await ctx.run_child("child", merge=True)
            ctx.write_event_to_stream("after")

        inner, workflow = bench.workflow(child), bench.workflow(parent)
        await known(bench, inner, workflow)
        task = await bench.submit(workflow)
        running = begins(await bench.attempt(workflow))
        child_running = begins(await bench.attempt(inner))
        async with asyncio.timeout(PATIENCE):
            while "first" not in await bench.said(task):
                await asyncio.sleep(0.005)
        loop.call_soon(let_go.set)
        await asyncio.wait_for(asyncio.gather(running, child_running), PATIENCE)
        assert await shown(bench, task) == ["before", "first", "aside", "second", "after"]
        channels = [event.channel for event in await bench.events(task) if event.kind == "workflow"]
        assert channels == [None, "child", "child/log", "child", None]
        assert gate.arrivals == 0

    @pytest.mark.parametrize("fails", [False, True])
    async def test_what_a_child_s_stream_has_no_more_is_counted(self, bench: Bench, fails: bool) -> None:
        async def child(ctx: Context) -> None:
            for number in range(500):
                await ctx.emit(number)
                if number % 50 == 0:
                    # Whole entries are trimmed, and so there must be several.
                    await asyncio.sleep(0.005)
            if fails:
                raise ValueError("no")

        async def parent(ctx: Context) -> None:
            await ctx.run_child("child", merge=True)

        inner, workflow = bench.workflow(child, keep_last=20), bench.workflow(parent)
        await known(bench, inner, workflow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        await eventually(lambda: attempt.unsent_bytes == 0)
        child_attempt = await bench.attempt(inner)
        # The parent is lost before its child has written anything, and comes back when that has ended.
        attempt.stop(Stop.LOST)
        await asyncio.wait_for(running, PATIENCE)
        await asyncio.wait_for(child_attempt.run(), PATIENCE)
        await bench.broker.queue.reap(bench.platform.worker, leaves=True)
        await known(bench, inner, workflow)
        await bench.run(workflow)
        (of_child,) = await children_of(bench, task)
        first, *_ = left = await bench.events(of_child)
        assert first.seq > 1
        (finished,) = [event.data for event in await bench.events(task) if event.type == "task.step_finished"]
        error = {"error": {"code": "workflow_error", "type": "builtins.ValueError", "message": "no"}} if fails else {}
        known_of_it = {"id": "0", "step": "child", "task_id": of_child.task_id, "missing": first.seq - 1}
        assert finished == known_of_it | error
        assert await shown(bench, task) == [event.data for event in left if event.kind == "workflow"]

    async def test_what_a_child_takes_back_is_taken_back_and_each_thing_is_shown_once(self, bench: Bench) -> None:
        ran = Counter[str]()

        async def child(ctx: Context) -> None:
            async def kept() -> None:
                ctx.write_event_to_stream("kept")

            await ctx.step(kept)
            ran["child"] += 1
            ctx.write_event_to_stream(f"try {ran['child']}")
            if ran["child"] < 3:
                raise OSError("again")

        async def parent(ctx: Context) -> None:
            await ctx.run_child("child", merge="kid")

        inner, workflow = bench.workflow(child, retries=5, retry_delay=0.001), bench.workflow(parent)
        await known(bench, inner, workflow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        await bench.run(inner)
        async with asyncio.timeout(PATIENCE):
            while "try 1" not in await bench.said(task):
                await asyncio.sleep(0.005)
        # The parent is lost, too, in the middle.
        await eventually(lambda: attempt.unsent_bytes == 0)
        attempt.stop(Stop.LOST)
        await asyncio.wait_for(running, PATIENCE)
        await bench.broker.queue.reap(bench.platform.worker, leaves=True)
        await known(bench, inner, workflow)
        running = begins(await bench.attempt(workflow))
        await bench.run(inner)
        await bench.run(inner)
        await asyncio.wait_for(running, PATIENCE)
        assert (await bench.record(task)).state is State.SUCCEEDED
        assert await shown(bench, task) == ["kept", "try 3"]


async def test_a_child_that_is_not_there_yet_is_not_taken_for_one_that_has_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    started: list[str] = []
    start, read = Family.start, Inbox.read

    async def start_late(self: Family, child: Any, *args: Any) -> None:
        # As while the queue's server is away: the parent has named the second one for long before it is there.
        started.append(child)
        before = len(looks)
        async with asyncio.timeout(PATIENCE):
            while len(started) == 2 and len(looks) < before + 3:
                await asyncio.sleep(0.005)
        await start(self, child, *args)

    async def count(self: Inbox, *args: Any) -> Any:
        looks.append(1)
        return await read(self, *args)

    async def child(ctx: Context, number: int) -> int:
        return number

    async def parent(ctx: Context) -> Any:
        # While the first one is waited for, the inbox is looked after.
        return await ctx.gather(ctx.run_child("child", 1), ctx.run_child("child", 2))

    monkeypatch.setattr(Family, "start", start_late)
    monkeypatch.setattr(Inbox, "read", count)
    inner, workflow = bench.workflow(child), bench.workflow(parent)
    await known(bench, inner, workflow)
    task = await bench.submit(workflow)
    running = begins(await bench.attempt(workflow))
    async with asyncio.timeout(PATIENCE):
        while len(await children_of(bench, task)) < 2:
            await asyncio.sleep(0.005)
    await bench.run(inner)
    await bench.run(inner)
    await asyncio.wait_for(running, PATIENCE)
    assert (await bench.record(task)).result == codec.pack([1, 2])


async def test_a_child_whose_retention_has_passed_is_not_started_again(bench: Bench) -> None:
    async def child(ctx: Context) -> int:
        return 7

    async def parent(ctx: Context) -> str:
        try:
            return str(await ctx.run_child("child"))
        except TaskFailed as failed:
            return failed.error_code

    inner, workflow = bench.workflow(child), bench.workflow(parent)
    await known(bench, inner, workflow)
    # Its first attempt is lost before it is told that the child has ended.
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    running = begins(attempt)
    async with asyncio.timeout(PATIENCE):
        while not (made := await children_of(bench, task)):
            await asyncio.sleep(0.005)
    attempt.stop(Stop.LOST)
    await asyncio.wait_for(running, PATIENCE)
    await bench.broker.queue.reap(bench.platform.worker, leaves=True)
    await known(bench, inner, workflow)
    await bench.run(inner)
    await bench.broker.tasks.discard(made[0])
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack("task_gone")
    assert not await bench.broker.redis.exists(bench.broker.keys.task(made[0]))


async def test_many_children_are_not_named_anew_at_each_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[int] = []
    name = OpenChildren._fields

    def count(self: OpenChildren) -> Any:
        times.append(1)
        return name(self)

    async def parent(ctx: Context) -> int:
        return sum(await ctx.gather(*(ctx.run_child("doubled", 1) for _ in range(40))))

    monkeypatch.setattr(OpenChildren, "_fields", count)
    child, workflow = bench.workflow(doubled), bench.workflow(parent)
    await known(bench, child, workflow)
    task = await bench.submit(workflow)
    running = begins(await bench.attempt(workflow))
    for _ in range(40):
        await bench.run(child)
    await asyncio.wait_for(running, PATIENCE)
    record = await bench.record(task)
    assert (record.result, record.children) == (codec.pack(80), ())
    # At each start, and about 20 times while they end.
    assert 40 < len(times) < 70


async def test_an_unknown_workflow_and_too_many_generations_are_refused(bench: Bench) -> None:
    async def parent(ctx: Context) -> None:
        await ctx.run_child("nobody_runs_it")

    workflow = bench.workflow(parent)
    await known(bench, workflow)
    task = await bench.submit(workflow)
    await bench.run(workflow)
    error = (await bench.record(task)).error
    assert error is not None
    assert error["type"].endswith("UnknownWorkflow")


async def test_an_end_that_nobody_told_of_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell_nobody(*_: Any) -> None: ...

    async def child(ctx: Context) -> int:
        return 7

    async def parent(ctx: Context) -> Any:
        return await ctx.run_child("child")

    inner, workflow = bench.workflow(child), bench.workflow(parent)
    await known(bench, inner, workflow)
    task = await bench.submit(workflow)
    running = begins(await bench.attempt(workflow))
    attempt = await bench.attempt(inner)
    with monkeypatch.context() as patched:
        patched.setattr(type(bench.broker.deliveries), "tell_parent", tell_nobody)
        await asyncio.wait_for(attempt.run(), PATIENCE)
    await asyncio.wait_for(running, PATIENCE)
    assert (await bench.record(task)).result == codec.pack(7)
