"""One attempt from claim to end, over a real Redis, with the workflow on a loop of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, NewTask, TaskRef
from tailplane.broker.records import Fired
from tailplane.protocol import codec
from tailplane.protocol.errors import BufferFull, TaskLost, TooLarge, Unserialisable
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import new_task_id, new_worker_id
from tailplane.protocol.states import State, Trigger
from tailplane.workers import Context, Retry
from tailplane.workers.attempt import Attempt, Stop
from tailplane.workers.descriptions import describe
from tailplane.workers.runner import Runner
from tailplane.workers.workflow import Workflow
from tailplane.workers.writer import Writer

from .conftest import PATIENCE, Bench, eventually, kept_over, platform_over

#: Set by what the workflows below tell the test.
Seen = list[object]


async def ends(attempt: Attempt) -> None:
    await asyncio.wait_for(attempt.run(), PATIENCE)


def begins(attempt: Attempt) -> "asyncio.Task[None]":
    return asyncio.ensure_future(attempt.run())


async def drained(bench: Bench, workflow: Workflow, waiting: "Future[None]") -> TaskRef:
    """Run a task until its workflow waits, and stop its attempt as a worker does that ends."""
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    running = begins(attempt)
    await asyncio.wrap_future(waiting)
    attempt.stop(Stop.DRAINED)
    await asyncio.wait_for(running, PATIENCE)
    return task


class TestSuccess:
    async def test_events_and_result_are_kept_and_the_claim_forgotten(self, bench: Bench) -> None:
        async def flow(ctx: Context, n: int) -> dict[str, int]:
            for number in range(n):
                ctx.write_event_to_stream(number)
            return {"n": n}

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow, 3)
        await bench.run(workflow)
        record = await bench.record(task)
        assert (record.state, record.attempt, codec.unpack(record.result or b"")) == (State.SUCCEEDED, 1, {"n": 3})
        assert await bench.said(task) == ["task.queued", "task.started", 0, 1, 2, "task.succeeded"]
        assert (await bench.events(task))[-1].data == {"result": {"n": 3}}
        assert await bench.places(task, workflow) == []

    async def test_seqs_are_dense_and_of_one_attempt(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            for number in range(2000):
                ctx.write_event_to_stream([number, "x" * 50])

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        events = await bench.events(task)
        assert [event.seq for event in events] == list(range(1, 2004))
        assert {event.attempt for event in events[1:]} == {1}

    async def test_what_code_that_blocks_wrote_comes_while_it_blocks(self, bench: Bench) -> None:
        let_go = threading.Event()

        async def flow(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            let_go.wait(PATIENCE)

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        running = begins(await bench.attempt(workflow))
        async with asyncio.timeout(PATIENCE):
            while (await bench.said(task))[-1] != "before":
                await asyncio.sleep(0.002)
        assert not running.done()
        let_go.set()
        await running

    async def test_the_workflow_knows_its_task(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> list[object]:
            return [ctx.task_id, ctx.attempt, ctx.workflow, ctx.session_id, dict(ctx.metadata), ctx.due_at]

        workflow = bench.workflow(flow, name="named")
        task = TaskRef(new_task_id())
        await bench.broker.tasks.create(
            NewTask(task, "named", "1", b"\xc0", session_id="s_1", metadata={"a": "b"})  # type: ignore[arg-type]
        )
        await bench.broker.queue.enqueue(task, "named")
        await bench.register()
        await bench.run(workflow)
        result = codec.unpack((await bench.record(task)).result or b"")
        assert result == [task.task_id, 1, "named", "s_1", {"a": "b"}, None]

    async def test_the_workflow_knows_when_it_was_to_start(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> object:
            return ctx.due_at

        workflow = bench.workflow(flow, name="named")
        task = TaskRef(new_task_id())
        fired = Fired("nightly", due_ms=1_767_225_600_000)
        await bench.broker.tasks.create(NewTask(task, "named", "1", b"\xc0", fired=fired))
        await bench.broker.queue.enqueue(task, "named")
        await bench.register()
        await bench.run(workflow)
        result = codec.unpack((await bench.record(task)).result or b"")
        assert result == datetime(2026, 1, 1, tzinfo=UTC)


class TestFailure:
    async def test_the_remote_type_message_and_traceback_are_told(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            raise LookupError("nothing there")

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.state is State.FAILED
        assert record.error is not None
        assert (record.error["code"], record.error["type"]) == ("workflow_error", "builtins.LookupError")
        assert record.error["message"] == "nothing there"
        assert record.error["traceback"].startswith("Traceback (most recent call last):")
        assert 'raise LookupError("nothing there")' in record.error["traceback"]
        last = (await bench.events(task))[-1]
        assert (last.type, last.data) == ("task.failed", {"error": record.error})
        assert await bench.said(task) == ["task.queued", "task.started", "before", "task.failed"]
        assert await bench.places(task, workflow) == []

    @pytest.mark.parametrize(
        ("value", "code"),
        [
            ({"a": object()}, "unserialisable"),
            ({(1, 2): 3}, "unserialisable"),
            ("\ud800", "unserialisable"),
            ("x" * 70_000, "too_large"),
        ],
        ids=["object", "tuple as key", "surrogate", "large"],
    )
    @pytest.mark.parametrize("where", ["event", "result"])
    async def test_what_can_not_travel_fails_the_task(self, bench: Bench, value: object, code: str, where: str) -> None:
        async def flow(ctx: Context) -> object:
            if where == "event":
                ctx.write_event_to_stream(value)
            return value

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.state is State.FAILED
        assert record.error is not None
        assert record.error["code"] == code
        assert await bench.places(task, workflow) == []

    async def test_an_event_that_can_not_travel_harms_nothing_if_it_is_caught(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            for value in (object(), "x" * 70_000, "good"):
                try:
                    ctx.write_event_to_stream(value)
                except (Unserialisable, TooLarge) as error:
                    ctx.write_event_to_stream(error.code)

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.said(task))[2:] == ["unserialisable", "too_large", "good", "task.succeeded"]

    async def test_a_workflow_that_writes_faster_than_redis_takes_it_fails(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            # In one go: the writer gets hardly anything away.
            while True:
                ctx.write_event_to_stream("x" * 60_000)

        bench.platform = replace(bench.platform, limits=replace(bench.platform.limits, task=200_000))
        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, BufferFull.code)
        events = await bench.events(task)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))

    async def test_an_input_that_does_not_fit_fails_at_once_whatever_the_retries(self, bench: Bench) -> None:
        async def flow(ctx: Context, n: int) -> None: ...

        workflow = bench.workflow(flow, retries=5)
        task = await bench.submit(workflow, "three")
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, "invalid_input")

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
    async def test_what_would_end_the_process_fails_the_task(self, bench: Bench, kind: type[BaseException]) -> None:
        async def flow(ctx: Context) -> None:
            raise kind("by the author")

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, "workflow_error")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Undecodable(Exception):
    def __str__(self) -> str:
        return "file \udcff"


class TestDescribe:
    @pytest.mark.parametrize("kind", [Mute, Undecodable])
    async def test_an_exception_that_can_not_be_told_fails_the_task_all_the_same(
        self, bench: Bench, kind: type[Exception]
    ) -> None:
        def flow(ctx: Context) -> None:
            raise kind

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["type"]) == (State.FAILED, f"{kind.__module__}.{kind.__qualname__}")

    def test_long_texts_are_cut(self) -> None:
        error = describe(ValueError("x" * 1_000_000))
        assert len(codec.pack(error)) < 200_000

    def test_the_end_of_a_long_traceback_is_kept(self) -> None:
        error = describe(ValueError("y" * 70_000 + "the end"))
        assert error["traceback"].endswith("the end\n")


class TestRetry:
    async def test_a_failed_attempt_is_followed_by_another_that_succeeds(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> str:
            ctx.write_event_to_stream(ctx.attempt)
            if ctx.attempt < 3:
                raise LookupError(f"attempt {ctx.attempt}")
            return "done"

        workflow = bench.workflow(flow, retries=2, retry_delay=timedelta(milliseconds=10))
        task = await bench.submit(workflow)
        for _ in range(2):
            await bench.run(workflow)
            assert (await bench.record(task)).state is State.QUEUED
            assert await bench.places(task, workflow) == ["due"]
        await bench.run(workflow)
        record = await bench.record(task)
        assert (record.state, record.attempt, record.failures) == (State.SUCCEEDED, 3, 2)
        assert await bench.said(task) == [
            "task.queued",
            *["task.started", 1, "task.retrying"],
            *["task.rewind", "task.started", 2, "task.retrying"],
            *["task.rewind", "task.started", 3, "task.succeeded"],
        ]
        retrying = [event for event in await bench.events(task) if event.type == "task.retrying"]
        first, second = (event.data["delay_ms"] for event in retrying)
        assert 5 <= first <= 10 <= second <= 20
        assert [event.data["error"]["message"] for event in retrying] == ["attempt 1", "attempt 2"]

    async def test_the_last_attempt_fails_the_task(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            raise LookupError(f"attempt {ctx.attempt}")

        workflow = bench.workflow(flow, retries=1, retry_delay=timedelta())
        task = await bench.submit(workflow)
        await bench.run(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["message"]) == (State.FAILED, "attempt 2")

    async def test_the_next_attempt_is_due_after_its_delay(self, bench: Bench, broker: Broker) -> None:
        async def flow(ctx: Context) -> None:
            raise LookupError

        workflow = bench.workflow(flow, retries=1, retry_delay=timedelta(seconds=30))
        await bench.submit(workflow)
        await bench.run(workflow)
        claims = await broker.queue.claim(bench.platform.worker, 1, {"flow": 1})
        assert claims.taken == []
        assert claims.next_due is not None
        assert timedelta(seconds=10) < claims.next_due <= timedelta(seconds=30)

    @pytest.mark.parametrize("failures", [1, 5, 50, 1000, 100_000])
    async def test_however_often_it_is_retried_the_delay_stays_within_a_minute(
        self, bench: Bench, redis: Redis, failures: int
    ) -> None:
        async def flow(ctx: Context) -> None:
            raise LookupError

        workflow = bench.workflow(flow, retries=10**6, retry_delay=timedelta(seconds=40))
        task = await bench.submit(workflow)
        await redis.hset(bench.broker.keys.task(task), "failures", str(failures))  # type: ignore[misc]
        await bench.run(workflow)
        assert 30_000 <= (await bench.events(task))[-1].data["delay_ms"] <= 60_000

    async def test_a_task_whose_workers_are_lost_again_and_again_fails(self, bench: Bench, broker: Broker) -> None:
        seen: Seen = []

        async def flow(ctx: Context) -> None:
            seen.append(ctx.attempt)

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        for _ in range(3):
            await broker.tasks.begin(task, new_worker_id(), "host-2")
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, "attempts_exhausted")
        assert seen == []
        assert await bench.places(task, workflow) == []

    async def test_a_workflow_that_raises_retry_says_when(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> int:
            if ctx.attempt == 1:
                raise Retry("too many requests", after=0.03)
            return ctx.attempt

        workflow = bench.workflow(flow, retries=1, retry_on=KeyError)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        retrying = (await bench.events(task))[-1]
        assert (retrying.type, retrying.data["delay_ms"]) == ("task.retrying", 30)
        assert retrying.data["error"]["message"] == "too many requests"
        await bench.run(workflow)
        assert codec.unpack((await bench.record(task)).result or b"") == 2

    async def test_what_is_not_worth_another_attempt_fails_the_task(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            raise ValueError("for good")

        workflow = bench.workflow(flow, retries=3, retry_on=(KeyError, TimeoutError))
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert (record.state, record.attempt) == (State.FAILED, 1)


class TestTimeout:
    @pytest.mark.parametrize("blocks", [False, True])
    async def test_an_attempt_that_takes_too_long_fails(self, bench: Bench, blocks: bool) -> None:
        let_go = threading.Event()

        async def waits(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            await asyncio.Event().wait()

        def blocked(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            let_go.wait(PATIENCE)

        workflow = bench.workflow(blocked if blocks else waits, timeout=timedelta(milliseconds=400))
        task = await bench.submit(workflow)
        attempt = await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, "timeout")
        assert record.error["type"] == "builtins.TimeoutError"
        assert await bench.said(task) == ["task.queued", "task.started", "before", "task.failed"]
        let_go.set()
        await asyncio.wait_for(attempt.unwound(), PATIENCE)

    async def test_a_timeout_is_retried(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            if ctx.attempt == 1:
                await asyncio.Event().wait()

        workflow = bench.workflow(flow, timeout=timedelta(milliseconds=500), retries=1, retry_delay=timedelta())
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.events(task))[-1].data["error"]["code"] == "timeout"
        await bench.run(workflow)
        assert (await bench.record(task)).state is State.SUCCEEDED


class TestTotalTimeout:
    async def test_it_ends_the_task_whatever_retries_it_has(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            await asyncio.Event().wait()

        workflow = bench.workflow(flow, total_timeout=timedelta(milliseconds=300), retries=5)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, "timeout")
        assert "total_timeout" in record.error["message"]
        assert await bench.said(task) == ["task.queued", "task.started", "before", "task.failed"]
        assert await bench.places(task, workflow) == []

    async def test_it_counts_from_the_first_attempt(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            if ctx.attempt == 1:
                raise Retry(after=0.5)
            await asyncio.Event().wait()

        workflow = bench.workflow(flow, total_timeout=timedelta(seconds=1), retries=5)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        first = await bench.record(task)
        await bench.run(workflow)
        record = await bench.record(task)
        assert (first.state, record.state) == (State.QUEUED, State.FAILED)
        assert (record.attempt, record.failures) == (2, 2)
        assert first.end_by == record.end_by

    async def test_no_retry_is_planned_for_when_it_is_over(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            raise Retry("later", after=3600)

        workflow = bench.workflow(flow, total_timeout=timedelta(minutes=1), retries=5)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["message"]) == (State.FAILED, "later")

    async def test_an_attempt_that_comes_too_late_does_not_begin(self, bench: Bench, redis: Redis) -> None:
        async def flow(ctx: Context) -> None:
            raise Retry(after=0)

        workflow = bench.workflow(flow, total_timeout=timedelta(minutes=1), retries=5)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        await redis.hset(bench.broker.keys.task(task), "end_by", 1)
        await bench.run(workflow)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"], record.attempt) == (State.FAILED, "timeout", 1)
        assert await bench.said(task) == ["task.queued", "task.started", "task.retrying", "task.failed"]
        assert await bench.places(task, workflow) == []


@pytest.fixture
def cancelled_writes() -> Seen:
    return []


class TestCancel:
    async def test_code_that_awaits_is_cancelled_and_what_it_wrote_stays(self, bench: Bench) -> None:
        waiting: Future[None] = Future()

        async def flow(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            try:
                waiting.set_result(None)
                await asyncio.Event().wait()
            finally:
                # Still its own: the end is not yet written.
                ctx.write_event_to_stream("unwinding")

        bench.platform = replace(bench.platform, stop_grace=timedelta(seconds=PATIENCE))
        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        await asyncio.wrap_future(waiting)
        attempt.stop(Stop.CANCELLED, "enough")
        await asyncio.wait_for(running, PATIENCE)
        assert await bench.said(task) == ["task.queued", "task.started", "before", "unwinding", "task.cancelled"]
        assert (await bench.events(task))[-1].data == {"reason": "enough"}
        assert (await bench.record(task)).state is State.CANCELLED
        assert await bench.places(task, workflow) == []
        await asyncio.wait_for(attempt.unwound(), PATIENCE)

    @pytest.mark.parametrize("kind", ["coroutine", "function", "generator"])
    async def test_code_that_blocks_is_left_behind_and_its_later_writes_are_refused(
        self, bench: Bench, cancelled_writes: Seen, kind: str
    ) -> None:
        entered, let_go = threading.Event(), threading.Event()

        def block(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            entered.set()
            let_go.wait(PATIENCE)
            try:
                ctx.write_event_to_stream("after")
            except TaskLost as error:
                cancelled_writes.append(error.code)

        async def coroutine(ctx: Context) -> None:
            block(ctx)

        def function(ctx: Context) -> None:
            block(ctx)

        def generator(ctx: Context) -> Iterator[str]:
            block(ctx)
            yield "never"

        workflow = bench.workflow({"coroutine": coroutine, "function": function, "generator": generator}[kind])
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        await eventually(entered.is_set)
        attempt.stop(Stop.CANCELLED)
        # Within the grace and a little: nobody waits for the code.
        await asyncio.wait_for(running, PATIENCE)
        assert (await bench.record(task)).state is State.CANCELLED
        unwound = asyncio.ensure_future(attempt.unwound())
        await asyncio.sleep(0)
        assert not unwound.done()
        let_go.set()
        await asyncio.wait_for(unwound, PATIENCE)
        assert cancelled_writes == ["task_lost"]
        assert await bench.said(task) == ["task.queued", "task.started", "before", "task.cancelled"]

    async def test_a_cancellation_that_comes_before_the_attempt_began_is_left_to_the_record(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None: ...

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        attempt.stop(Stop.CANCELLED)
        await ends(attempt)
        assert (await bench.record(task)).state is State.QUEUED
        assert await bench.places(task, workflow) == ["due"]

    async def test_what_comes_with_the_end_is_counted_and_is_the_first_event(self, bench: Bench) -> None:
        def flow(ctx: Context) -> None:
            ctx.write_event_to_stream("a")
            ctx.write_event_to_stream("b")

        workflow = bench.workflow(flow)
        await bench.submit(workflow)
        await bench.run(workflow)
        counts = bench.platform.counts
        assert bench.platform.writer.written.events == 2
        assert counts.first_events[workflow.name,].count == 1
        assert counts.outcomes == {(workflow.name, "succeeded", "default"): 1}

    async def test_a_task_that_was_ended_before_it_began_is_dropped(self, bench: Bench, broker: Broker) -> None:
        seen: Seen = []

        async def flow(ctx: Context) -> None:
            seen.append("ran")

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await broker.tasks.end(task, Trigger.CANCEL, 0, PlatformType.CANCELLED, {"reason": None})
        await bench.run(workflow)
        assert (seen, await bench.places(task, workflow)) == ([], [])
        assert bench.platform.counts.refused == {(workflow.name,): 1}

    async def test_a_failed_task_is_a_dead_letter_before_its_claim_is_forgotten(
        self, bench: Bench, broker: Broker
    ) -> None:
        async def flow(ctx: Context) -> None:
            raise ValueError("no")

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert await broker.catalogue.dead_letter_ids("default", None, 10) == [task.task_id]
        assert await bench.places(task, workflow) == []

    async def test_a_claim_of_a_failed_task_makes_it_a_dead_letter(self, bench: Bench, broker: Broker) -> None:
        async def flow(ctx: Context) -> None: ...

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        # By a worker that died before it had noted it.
        await broker.tasks.end(task, Trigger.FAIL, 0, PlatformType.FAILED, {"error": {}})
        await bench.run(workflow)
        assert await broker.catalogue.dead_letter_ids("default", None, 10) == [task.task_id]
        assert await bench.places(task, workflow) == []

    async def test_a_task_that_was_removed_before_it_began_is_dropped(self, bench: Bench, broker: Broker) -> None:
        async def flow(ctx: Context) -> None: ...

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await broker.tasks.discard(task)
        await bench.run(workflow)
        assert await bench.places(task, workflow) == []


class TestLost:
    async def test_an_attempt_that_is_fenced_off_stops_by_itself(self, bench: Bench, broker: Broker) -> None:
        seen: Seen = []

        async def flow(ctx: Context) -> None:
            try:
                while True:
                    ctx.write_event_to_stream("tick")
                    await asyncio.sleep(0.001)
            except (TaskLost, asyncio.CancelledError) as error:
                seen.append(type(error))
                raise

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        async with asyncio.timeout(PATIENCE):
            while "tick" not in await bench.said(task):
                await asyncio.sleep(0.002)
        other = await broker.tasks.begin(task, new_worker_id(), "host-2")
        await asyncio.wait_for(running, PATIENCE)
        await asyncio.wait_for(attempt.unwound(), PATIENCE)
        assert len(seen) == 1
        assert await bench.said(task) == [
            "task.queued", "task.started",
            *["tick"] * ((await bench.events(task))[-1].seq - 5),
            "task.worker_lost", "task.rewind", "task.started",
        ]  # fmt: skip
        assert (other.attempt, (await bench.record(task)).state) == (2, State.RUNNING)

    async def test_a_lost_attempt_ends_without_a_word(self, bench: Bench) -> None:
        waiting: Future[None] = Future()

        async def flow(ctx: Context) -> None:
            waiting.set_result(None)
            await asyncio.Event().wait()

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        await asyncio.wrap_future(waiting)
        before = await bench.said(task)
        attempt.stop(Stop.LOST)
        await asyncio.wait_for(running, PATIENCE)
        await asyncio.wait_for(attempt.unwound(), PATIENCE)
        assert await bench.said(task) == before

    async def test_a_task_that_was_ended_from_outside_while_it_ran_keeps_that_end(
        self, bench: Bench, broker: Broker
    ) -> None:
        waiting: Future[None] = Future()
        let_go = threading.Event()

        async def flow(ctx: Context) -> str:
            waiting.set_result(None)
            let_go.wait(PATIENCE)
            return "too late"

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        running = begins(await bench.attempt(workflow))
        await asyncio.wrap_future(waiting)
        await broker.tasks.end(task, Trigger.CANCEL, 1, PlatformType.CANCELLED, {"reason": "outside"})
        let_go.set()
        await asyncio.wait_for(running, PATIENCE)
        assert await bench.said(task) == ["task.queued", "task.started", "task.cancelled"]
        assert (await bench.record(task)).state is State.CANCELLED

    @pytest.mark.parametrize("first", [Stop.CANCELLED, Stop.DRAINED])
    async def test_losing_the_task_overrules_every_other_reason(self, bench: Bench, first: Stop) -> None:
        waiting: Future[None] = Future()

        def flow(ctx: Context) -> None:
            waiting.set_result(None)
            let_go.wait(PATIENCE)

        let_go = threading.Event()
        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        await asyncio.wrap_future(waiting)
        attempt.stop(first)
        attempt.stop(Stop.LOST)
        attempt.stop(first)
        await asyncio.wait_for(running, PATIENCE)
        let_go.set()
        await asyncio.wait_for(attempt.unwound(), PATIENCE)
        assert await bench.said(task) == ["task.queued", "task.started"]

    async def test_a_task_that_may_not_run_twice_fails_when_its_worker_was_lost(
        self, bench: Bench, broker: Broker
    ) -> None:
        seen: Seen = []

        async def flow(ctx: Context) -> None:
            seen.append("ran")

        workflow = bench.workflow(flow, retries=5, retry_on_crash=False)
        task = await bench.submit(workflow)
        lost = await broker.tasks.begin(task, new_worker_id(), "host-2")
        await bench.run(workflow)
        record = await bench.record(task)
        assert (seen, record.state, record.attempt) == ([], State.FAILED, lost.attempt)
        assert record.error is not None
        assert record.error["code"] == "worker_lost"
        assert await bench.said(task) == ["task.queued", "task.started", "task.failed"]
        assert (await bench.events(task))[-1].attempt == lost.attempt
        assert await bench.places(task, workflow) == []

    async def test_a_task_that_may_not_run_twice_fails_where_its_own_worker_gets_it_back(self, bench: Bench) -> None:
        seen: Seen = []
        waiting: Future[None] = Future()

        async def flow(ctx: Context) -> None:
            seen.append(ctx.attempt)
            waiting.set_result(None)
            await asyncio.Event().wait()

        workflow = bench.workflow(flow, retry_on_crash=False)
        task = await bench.submit(workflow)
        attempt = await bench.attempt(workflow)
        running = begins(attempt)
        await asyncio.wrap_future(waiting)
        # As after a network that was away for longer than the lease: struck off, and registered anew.
        await bench.broker.queue.reap(bench.platform.worker, leaves=True)
        attempt.stop(Stop.LOST)
        await asyncio.wait_for(running, PATIENCE)
        await bench.register()
        await bench.run(workflow)
        assert seen == [1]
        assert await bench.said(task) == ["task.queued", "task.started", "task.failed"]
        assert await bench.places(task, workflow) == []

    async def test_a_task_that_may_not_run_twice_runs_where_the_reply_to_its_beginning_was_lost(
        self, bench: Bench, broker: Broker
    ) -> None:
        async def flow(ctx: Context) -> int:
            return ctx.attempt

        workflow = bench.workflow(flow, retry_on_crash=False)
        task = await bench.submit(workflow)
        await broker.tasks.begin(task, bench.platform.worker, "host-1")
        await bench.run(workflow)
        assert codec.unpack((await bench.record(task)).result or b"") == 2


class TestDrain:
    async def test_a_drained_attempt_hands_its_task_back(self, bench: Bench) -> None:
        waiting: Future[None] = Future()

        async def flow(ctx: Context) -> str:
            ctx.write_event_to_stream("before")
            if ctx.attempt == 1:
                waiting.set_result(None)
                await asyncio.Event().wait()
            return "done"

        workflow = bench.workflow(flow)
        task = await drained(bench, workflow, waiting)
        record = await bench.record(task)
        assert (record.state, record.failures) == (State.QUEUED, 0)
        assert await bench.places(task, workflow) == ["due"]
        assert (await bench.events(task))[-1].data == {"worker_id": bench.platform.worker}
        await bench.run(workflow)
        assert await bench.said(task) == [
            "task.queued",
            *["task.started", "before", "task.handed_back"],
            *["task.rewind", "task.started", "before", "task.succeeded"],
        ]
        assert (await bench.record(task)).attempt == 2

    async def test_a_task_that_may_not_run_twice_fails_when_its_worker_is_stopped(self, bench: Bench) -> None:
        waiting: Future[None] = Future()

        async def flow(ctx: Context) -> None:
            ctx.write_event_to_stream("before")
            waiting.set_result(None)
            await asyncio.Event().wait()

        workflow = bench.workflow(flow, retries=5, retry_on_crash=False)
        task = await drained(bench, workflow, waiting)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.error["code"]) == (State.FAILED, "worker_lost")
        assert await bench.said(task) == ["task.queued", "task.started", "before", "task.failed"]
        assert await bench.places(task, workflow) == []


class TestStoreAway:
    @pytest.fixture
    def lossy_bench(self, lossy_broker: Broker, writer: Writer, runner: Runner) -> Bench:
        """A bench whose attempts talk through the proxy; its writer does not."""
        return Bench(platform_over(lossy_broker, writer, runner))

    async def test_an_end_whose_reply_is_lost_is_written_once(
        self, lossy_bench: Bench, lose_next_reply: Callable[[], None]
    ) -> None:
        waiting: Future[None] = Future()
        let_go = threading.Event()

        def flow(ctx: Context) -> str:
            ctx.write_event_to_stream("before")
            waiting.set_result(None)
            let_go.wait(PATIENCE)
            return "done"

        workflow = lossy_bench.workflow(flow)
        task = await lossy_bench.submit(workflow)
        running = begins(await lossy_bench.attempt(workflow))
        await asyncio.wrap_future(waiting)
        lose_next_reply()
        let_go.set()
        await asyncio.wait_for(running, PATIENCE)
        assert await lossy_bench.said(task) == ["task.queued", "task.started", "before", "task.succeeded"]
        assert await lossy_bench.places(task, workflow) == []

    async def test_a_beginning_whose_reply_is_lost_costs_an_attempt_and_not_the_task(
        self, lossy_bench: Bench, lose_next_reply: Callable[[], None]
    ) -> None:
        async def flow(ctx: Context) -> int:
            return ctx.attempt

        workflow = lossy_bench.workflow(flow)
        task = await lossy_bench.submit(workflow)
        attempt = await lossy_bench.attempt(workflow)
        lose_next_reply()
        await ends(attempt)
        record = await lossy_bench.record(task)
        assert (record.state, codec.unpack(record.result or b"")) == (State.SUCCEEDED, 2)

    async def test_a_task_that_expires_while_redis_goes_away_is_dropped_when_it_is_back(
        self, lossy_bench: Bench, broker: Broker, lose_next_reply: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def flow(ctx: Context) -> None: ...

        workflow = lossy_bench.workflow(flow)
        late = replace(broker, tasks=replace(broker.tasks, start_within=timedelta(seconds=-1)))
        task = await lossy_bench.submit(workflow, broker=late)
        end = type(broker.tasks).end

        async def end_and_lose(self: Any, *args: Any) -> Any:
            monkeypatch.setattr(type(broker.tasks), "end", end)
            lose_next_reply()
            return await end(self, *args)

        monkeypatch.setattr(type(broker.tasks), "end", end_and_lose)
        await lossy_bench.run(workflow)
        assert await lossy_bench.said(task) == ["task.queued", "task.expired"]
        assert await lossy_bench.places(task, workflow) == []

    @pytest.mark.parametrize("kept", [64 * 1024, 0])
    async def test_what_the_store_has_lost_is_sent_again_or_never_called_a_success(
        self, bench: Bench, broker: Broker, redis: Redis, kept: int
    ) -> None:
        bench.platform = replace(bench.platform, kept=kept_over(broker, kept))
        # The writer has one of its own: what it sends counts.
        bench.platform.writer.kept = bench.platform.kept
        waiting: Future[None] = Future()
        let_go = threading.Event()

        def flow(ctx: Context) -> str:
            for number in range(5):
                ctx.write_event_to_stream(number)
            waiting.set_result(None)
            let_go.wait(PATIENCE)
            return "done"

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        before = await redis.dump(broker.keys.stream(task))
        running = begins(await bench.attempt(workflow))
        await asyncio.wrap_future(waiting)
        async with asyncio.timeout(PATIENCE):
            while (await bench.said(task))[-1] != 4:
                await asyncio.sleep(0.002)
        # As after a restart from what had been written to disk.
        await redis.restore(broker.keys.stream(task), 0, before, replace=True)
        let_go.set()
        await asyncio.wait_for(running, PATIENCE)
        record = await bench.record(task)
        if kept:
            assert record.state is State.SUCCEEDED
            assert await bench.said(task) == ["task.queued", "task.started", *range(5), "task.succeeded"]
        else:
            assert record.error is not None
            assert (record.state, record.error["code"]) == (State.FAILED, "events_lost")
            assert record.error["message"] == "the store lost events 2 to 7"
            assert await bench.said(task) == ["task.queued", "task.failed"]
            # Readers who had seen those see the end as well; others see that something is missing.
            assert [event.seq for event in await bench.events(task)] == [1, 8]

    async def test_a_task_fails_whose_attempt_the_store_has_lost_with_its_events(
        self, bench: Bench, broker: Broker, redis: Redis
    ) -> None:
        waiting: Future[None] = Future()
        let_go = threading.Event()

        def flow(ctx: Context) -> str:
            if ctx.attempt == 1:
                raise Retry(after=0)
            waiting.set_result(None)
            let_go.wait(PATIENCE)
            return "done"

        workflow = bench.workflow(flow, retries=1)
        task = await bench.submit(workflow)
        keys = [broker.keys.task(task), broker.keys.stream(task)]
        finish = type(broker.tasks).finish
        before: list[bytes] = []

        async def remember_and_finish(self: Any, *args: Any) -> State:
            before.extend([await redis.dump(key) for key in keys] if not before else [])
            return await finish(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(broker.tasks), "finish", remember_and_finish)
            await bench.run(workflow)
        running = begins(await bench.attempt(workflow))
        await asyncio.wrap_future(waiting)
        # What is lost begins with the end of the first attempt, which nobody keeps.
        for key, value in zip(keys, before, strict=True):
            await redis.restore(key, 0, value, replace=True)
        let_go.set()
        await asyncio.wait_for(running, PATIENCE)
        record = await bench.record(task)
        assert record.error is not None
        assert (record.state, record.attempt, record.error["code"]) == (State.FAILED, 2, "events_lost")
        assert await bench.said(task) == ["task.queued", "task.started", "task.failed"]
        # After what readers may have seen: the retry, the rewind and the second beginning.
        assert [event.seq for event in await bench.events(task)] == [1, 2, 6]
        assert await bench.places(task, workflow) == []


class TestExpired:
    async def test_a_task_whose_start_deadline_has_passed_expires(self, bench: Bench, broker: Broker) -> None:
        seen: Seen = []

        async def flow(ctx: Context) -> None:
            seen.append("ran")

        workflow = bench.workflow(flow)
        late = replace(broker, tasks=replace(broker.tasks, start_within=timedelta(seconds=-1)))
        task = await bench.submit(workflow, broker=late)
        await bench.run(workflow)
        record = await bench.record(task)
        assert (record.state, record.attempt, seen) == (State.EXPIRED, 0, [])
        assert await bench.said(task) == ["task.queued", "task.expired"]
        assert await bench.places(task, workflow) == []


async def test_attempts_of_several_tasks_run_side_by_side(bench: Bench) -> None:
    async def flow(ctx: Context, name: str) -> AsyncIterator[str]:
        for number in range(50):
            yield f"{name}{number}"

    workflow = bench.workflow(flow)
    tasks = [await bench.submit(workflow, name) for name in "abcdef"]
    attempts = [await bench.attempt(workflow) for _ in tasks]
    await asyncio.wait_for(asyncio.gather(*(attempt.run() for attempt in attempts)), PATIENCE)
    for name, task in zip("abcdef", tasks, strict=True):
        assert (await bench.said(task))[2:-1] == [f"{name}{number}" for number in range(50)]
