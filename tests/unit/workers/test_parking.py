"""How a task is parked, and what may happen in the middle of it: a message, a loss, a store that is away, a stop."""

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import BaseModel

from tailplane.broker.memory import Message, load
from tailplane.broker.parking import Parked
from tailplane.protocol import codec
from tailplane.protocol.errors import StoreUnavailable, TaskLost
from tailplane.protocol.ids import new_worker_id
from tailplane.protocol.states import State
from tailplane.workers import Context
from tailplane.workers.arrivals import Arrivals
from tailplane.workers.attempt import Stop
from tailplane.workers.survival import Survival

from .conftest import PATIENCE, Bench
from .durability import runs, shown


class Approval(BaseModel):
    approved: bool


async def asks(ctx: Context) -> bool:
    return (await ctx.wait_for_event(Approval)).approved


async def says(bench: Bench, task: object, type_: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while type_ not in await bench.said(task):  # type: ignore[arg-type]
            await asyncio.sleep(0.005)


async def parked_places(bench: Bench) -> list[str]:
    return [each.task.task_id for each in await bench.broker.parking.page(0, 100)]


class TestWhatWasLookedAt:
    async def test_a_message_counts_when_all_who_wait_have_seen_it(self) -> None:
        arrivals = Arrivals([Message(1, "x", None)], [], lambda: None)
        waiting = [asyncio.ensure_future(arrivals.take(lambda each: each.type == "a", lambda: None)) for _ in range(2)]
        await asyncio.sleep(0)
        assert arrivals.seen == 1
        arrivals.add([Message(2, "c", None)])
        assert (arrivals.seen, arrivals.count) == (1, 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert arrivals.seen == 2
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert arrivals.seen == 2

    async def test_what_comes_after_the_code_was_found_to_wait_wakes_the_task(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = asyncio.get_running_loop()

        ask_to_park = Survival._ask_to_park

        def ask_late(self: Survival, until: float | None, known: int) -> None:
            # On the workflows' loop, which is held up: so the code can't look at the message before it is too late.
            def here_and_now(coroutine: object) -> None:
                asyncio.run_coroutine_threadsafe(coroutine, here).result(PATIENCE)  # type: ignore[arg-type]

            here_and_now(bench.broker.inbox.deliver(task, "Approval", {"approved": True}))
            ask_to_park(self, until, known)
            assert self.durable is not None
            self.durable.arrivals.add([Message(1, "Approval", {"approved": True})])
            here_and_now(says(bench, task, "task.parked"))

        monkeypatch.setattr(Survival, "_ask_to_park", ask_late)
        workflow = bench.workflow(asks)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        assert await parked_places(bench) == []
        monkeypatch.setattr(Survival, "_ask_to_park", ask_to_park)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack(True)


async def test_a_task_that_is_lost_while_it_is_parked_leaves_its_slot(bench: Bench) -> None:
    workflow = bench.workflow(asks)
    task = await bench.submit(workflow)
    running = asyncio.ensure_future(runs(await bench.attempt(workflow)))
    await says(bench, task, "task.waiting")
    other = await bench.broker.tasks.begin(task, new_worker_id(), "host-2")
    await running
    record = await bench.record(task)
    assert (record.state, record.attempt, record.worker_id) == (State.RUNNING, 2, other.record.worker_id)
    assert await parked_places(bench) == []


class _Parking:
    """The parked, and a store that does what it is told and loses its replies, for the first few times."""

    def __init__(self, bench: Bench, lost: int, before: Callable[[], object]) -> None:
        self._inner = bench.broker.parking
        self._before = before
        self.lost = lost
        object.__setattr__(bench.broker, "parking", self)

    async def park(self, *args: object) -> bool:
        done = await self._inner.park(*args)  # type: ignore[arg-type]
        if self.lost:
            self.lost -= 1
            await self._before()  # type: ignore[misc]
            raise StoreUnavailable("the reply is lost")
        return done

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


async def test_a_message_is_seen_though_the_reply_that_the_task_is_parked_was_lost(bench: Bench) -> None:
    workflow = bench.workflow(asks)
    task = await bench.submit(workflow)

    async def deliver() -> None:
        # By somebody who dies before he can wake the task.
        await bench.broker.inbox.deliver(task, "Approval", {"approved": True})

    _Parking(bench, 2, deliver)
    await runs(await bench.attempt(workflow))
    assert await parked_places(bench) == []
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack(True)


class TestTimes:
    async def test_a_parked_task_comes_back_when_its_total_timeout_is_over_and_fails(self, bench: Bench) -> None:
        workflow = bench.workflow(asks, total_timeout=timedelta(seconds=0.4))
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        record = await bench.broker.tasks.read(task, ("state", "end_by", *_NEEDED))
        score = await bench.broker.redis.zscore(bench.broker.keys.parked, Parked(task, "asks").place)
        assert record.end_by is not None
        assert score == math.ceil(record.end_by * 1000)
        async with asyncio.timeout(PATIENCE):
            while not (due := await bench.broker.parking.due(await bench.broker.queue.now_ms(), 10)):
                await asyncio.sleep(0.01)
        await bench.broker.parking.unpark(due[0])
        await bench.run(workflow)
        failed = await bench.record(task)
        assert failed.error is not None
        assert (failed.state, failed.attempt, failed.error["code"]) == (State.FAILED, 1, "timeout")

    async def test_a_wait_that_ends_before_is_what_counts(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            await ctx.wait_for_event("a", timeout=60)

        workflow = bench.workflow(flow, total_timeout=timedelta(hours=1))
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        (wait,) = (await load(bench.broker.tasks.wire, bench.broker.keys, task)).steps.values()
        assert wait.until is not None
        score = await bench.broker.redis.zscore(bench.broker.keys.parked, Parked(task, "flow").place)
        assert score == math.ceil(wait.until * 1000)

    async def test_a_wait_keeps_its_deadline_when_its_worker_is_stopped(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            await ctx.wait_for_event("a", timeout=60)

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        untils = []
        for _ in range(2):
            attempt = await bench.attempt(workflow)
            running = asyncio.ensure_future(runs(attempt))
            await says(bench, task, "task.waiting")
            attempt.stop(Stop.DRAINED)
            await running
            (wait,) = (await load(bench.broker.tasks.wire, bench.broker.keys, task)).steps.values()
            untils.append(wait.until)
        assert untils[0] == untils[1] is not None
        record = await bench.record(task)
        assert (record.state, record.attempt, record.failures) == (State.QUEUED, 2, 0)
        assert (await bench.said(task)).count("task.waiting") == 1


_NEEDED = ("task_id", "tenant", "workflow", "version", "attempt", "failures", "created_at", "start_by")


class TestCode:
    async def test_a_pause_between_two_tries_is_no_wait(self, bench: Bench) -> None:
        tries = [0]

        async def flow(ctx: Context) -> list[object]:
            async def flaky() -> None:
                tries[0] += 1
                if tries[0] == 1:
                    raise OSError("not yet")

            # Longer than it takes to be parked.
            return await ctx.gather(ctx.wait_for_event("a"), ctx.step(flaky, retries=1, retry_delay=0.6))

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        said = [each for each in await bench.said(task) if each in ("task.step_finished", "task.parked")]
        assert said == ["task.step_finished", "task.parked"]

    async def test_code_that_clears_up_is_let_and_what_it_writes_is_refused(self, bench: Bench) -> None:
        seen: list[str] = []

        async def flow(ctx: Context) -> object:
            try:
                return await ctx.wait_for_event("a")
            except BaseException as error:
                seen.append(type(error).__name__)
                try:
                    ctx.write_event_to_stream("stopped")
                except Exception as refused:
                    seen.append(type(refused).__name__)
                return "something else"
            finally:
                seen.append("finally")

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        assert seen == ["CancelledError", "TaskLost", "finally"]
        assert (await bench.record(task)).state is State.WAITING
        await bench.broker.inbox.deliver(task, "a", 1)
        await bench.broker.parking.unpark(Parked(task, "flow"))
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack(1)
        assert await shown(bench, task) == []

    async def test_a_task_that_may_not_run_twice_may_be_parked(self, bench: Bench) -> None:
        workflow = bench.workflow(asks, retry_on_crash=False)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        await bench.broker.inbox.deliver(task, "Approval", {"approved": True})
        await bench.broker.parking.unpark(Parked(task, "asks"))
        await bench.run(workflow)
        record = await bench.record(task)
        assert (record.state, record.attempt) == (State.SUCCEEDED, 2)

    async def test_a_generator_waits_and_has_steps_like_any_other(self, bench: Bench) -> None:
        ran = [0]

        async def flow(ctx: Context):  # type: ignore[no-untyped-def]
            async def work() -> str:
                ran[0] += 1
                return "worked"

            yield "begin"
            yield await ctx.step(work)
            yield await ctx.wait_for_event("a")
            yield "end"

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        await bench.broker.inbox.deliver(task, "a", "came")
        await bench.broker.parking.unpark(Parked(task, "flow"))
        await bench.run(workflow)
        assert (await bench.record(task)).state is State.SUCCEEDED
        written = [event.data for event in await bench.events(task) if event.kind == "workflow"]
        assert (written, ran) == (["begin", "worked", "came", "end"], [1])


@pytest.mark.parametrize("stop", [Stop.DRAINED, Stop.TIMED_OUT])
async def test_what_clears_up_in_an_attempt_that_is_stopped_takes_no_other_step_s_place(
    bench: Bench, stop: Stop
) -> None:
    refused: list[str] = []

    async def flow(ctx: Context) -> object:
        async def upload() -> str:
            return "uploaded"

        async def clear_up() -> None: ...

        try:
            await ctx.wait_for_event("a")
        except asyncio.CancelledError:
            try:
                await ctx.step(clear_up)
            except TaskLost as error:
                refused.append(error.code)
            raise
        ctx.write_event_to_stream("went on")
        return await ctx.step(upload)

    workflow = bench.workflow(flow, retries=1, retry_delay=0)
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    running = asyncio.ensure_future(runs(attempt))
    await says(bench, task, "task.waiting")
    attempt.stop(stop)
    await running
    await bench.broker.inbox.deliver(task, "a", 1)
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack("uploaded")
    assert (refused, await shown(bench, task)) == (["task_lost"], ["went on"])


async def test_a_task_that_is_cancelled_may_clear_up_in_a_step(bench: Bench) -> None:
    async def flow(ctx: Context) -> None:
        async def clear_up() -> None: ...

        try:
            await ctx.wait_for_event("a")
        finally:
            await ctx.step(clear_up)

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    running = asyncio.ensure_future(runs(attempt))
    await says(bench, task, "task.waiting")
    attempt.stop(Stop.CANCELLED)
    await running
    said = await bench.said(task)
    assert said[-2:] == ["task.step_finished", "task.cancelled"]
