"""How authors' code is run: each shape, and each way in which it may end."""

import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from pydantic import BaseModel

from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidInput, TaskLost, TooLarge, Unserialisable
from tailplane.workers import Context
from tailplane.workers.emitter import Emitter
from tailplane.workers.runner import Outcome, Runner
from tailplane.workers.workflow import Options, Workflow

from .conftest import PATIENCE, Outlet, Watched, eventually

#: Set by what the workflows below tell the test.
Seen = list[object]


class Report(BaseModel):
    words: int


@pytest.fixture
def emitter(outlet: Outlet) -> Emitter:
    return outlet.emitter()


@pytest.fixture
def context(emitter: Emitter) -> Context:
    return Context("t_1", 1, "flow", None, {}, emitter)


def begin(runner: Runner, context: Context, function: Any, value: object = None) -> Watched:
    return Watched.start(runner, Workflow(function, Options(name="flow")), context, codec.pack(value))


def run(runner: Runner, context: Context, function: Any, value: object = None) -> Outcome:
    return begin(runner, context, function, value).outcome.result(PATIENCE)


def emitted(emitter: Emitter) -> list[object]:
    append = emitter.take()
    return [] if append is None else [event[1] for event in codec.unpack(append.payload)]


async def add(ctx: Context, n: int) -> int:
    await asyncio.sleep(0)
    ctx.write_event_to_stream("adding")
    return n + 1


def add_in_thread(ctx: Context, n: int) -> int:
    ctx.write_event_to_stream("adding")
    return n + 1


async def count(ctx: Context, n: int) -> AsyncIterator[int]:
    for number in range(n):
        await asyncio.sleep(0)
        yield number


def count_in_thread(ctx: Context, n: int) -> Iterator[int]:
    yield from range(n)
    return n + 1  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("function", "result", "events"),
    [
        (add, 4, ["adding"]),
        (add_in_thread, 4, ["adding"]),
        (count, None, [0, 1, 2]),
        (count_in_thread, 4, [0, 1, 2]),
    ],
)
def test_each_shape_runs_to_its_result(
    runner: Runner, context: Context, emitter: Emitter, function: Any, result: object, events: list[object]
) -> None:
    assert run(runner, context, function, 3) == Outcome(codec.pack(result))
    assert emitted(emitter) == events


def test_async_code_runs_on_the_workflows_loop_and_sync_code_does_not(
    runner: Runner, context: Context, workflows_loop: asyncio.AbstractEventLoop
) -> None:
    seen: Seen = []

    async def on_loop(ctx: Context) -> None:
        seen.append(asyncio.get_running_loop() is workflows_loop)

    def off_loop(ctx: Context) -> None:
        seen.append(threading.current_thread().name.startswith("workflow_"))

    def off_loop_too(ctx: Context) -> Iterator[int]:
        seen.append(threading.current_thread().name.startswith("workflow_"))
        yield 1

    for function in (on_loop, off_loop, off_loop_too):
        assert run(runner, context, function).error is None
    assert seen == [True] * 3


def test_a_model_is_a_result_too(runner: Runner, context: Context) -> None:
    async def flow(ctx: Context) -> Report:
        return Report(words=3)

    assert codec.unpack(run(runner, context, flow).result) == {"words": 3}


async def fails(ctx: Context) -> None:
    raise LookupError("as it is")


def fails_in_thread(ctx: Context) -> None:
    raise LookupError("as it is")


async def fails_between(ctx: Context) -> AsyncIterator[int]:
    yield 1
    raise LookupError("as it is")


def fails_between_in_thread(ctx: Context) -> Iterator[int]:
    yield 1
    raise LookupError("as it is")


@pytest.mark.parametrize("function", [fails, fails_in_thread, fails_between, fails_between_in_thread])
def test_what_the_author_raises_comes_out_as_it_is(runner: Runner, context: Context, function: Any) -> None:
    error = run(runner, context, function).error
    assert isinstance(error, LookupError)
    assert str(error) == "as it is"
    assert error.__traceback__ is not None


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("where", ["loop", "thread"])
def test_what_would_end_the_process_ends_the_run_only(
    runner: Runner, context: Context, kind: type[BaseException], where: str
) -> None:
    async def on_loop(ctx: Context) -> None:
        raise kind

    def in_thread(ctx: Context) -> None:
        raise kind

    error = run(runner, context, on_loop if where == "loop" else in_thread).error
    assert isinstance(error, kind | asyncio.CancelledError)
    assert run(runner, context, add, 1).error is None


def test_a_stop_iteration_ends_the_run(runner: Runner, context: Context) -> None:
    def stop(ctx: Context) -> object:
        return next(iter([]))

    async def stop_on_loop(ctx: Context) -> object:
        return next(iter([]))

    def stop_generator(ctx: Context) -> Iterator[int]:
        yield 1
        next(iter([]))

    for function in (stop, stop_on_loop, stop_generator):
        error = run(runner, context, function).error
        assert isinstance(error, RuntimeError)
        assert isinstance(error.__cause__, StopIteration)


@pytest.mark.parametrize("function", [add, add_in_thread, count, count_in_thread])
def test_an_input_that_does_not_fit_does_not_run(
    runner: Runner, context: Context, emitter: Emitter, function: Any
) -> None:
    assert isinstance(run(runner, context, function, "three").error, InvalidInput)
    assert emitted(emitter) == []


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ("x" * 70_000, TooLarge),
        (object(), Unserialisable),
        ({(1, 2): 3}, Unserialisable),
        ("\ud800", Unserialisable),
        (2**64, Unserialisable),
    ],
    ids=["large", "object", "tuple as key", "surrogate", "int"],
)
def test_a_result_that_can_not_travel_is_an_error(
    runner: Runner, context: Context, result: object, kind: type[Exception]
) -> None:
    def flow(ctx: Context) -> object:
        return result

    assert isinstance(run(runner, context, flow).error, kind)


def test_a_result_is_nested_no_deeper_than_the_event_that_tells_of_it_may_be(runner: Runner, context: Context) -> None:
    def flow(ctx: Context, depth: int) -> object:
        value: object = 1
        for _ in range(depth):
            value = [value]
        return value

    for depth in range(codec.MAX_NESTING - 5, codec.MAX_NESTING + 3):
        outcome = run(runner, context, flow, depth)
        if outcome.error is None:
            codec.pack((0.0, {"result": codec.unpack(outcome.result)}, {}))
        else:
            assert isinstance(outcome.error, Unserialisable)
    assert run(runner, context, flow, codec.MAX_NESTING - 2).error is None


def test_context_variables_of_the_run_reach_the_thread(runner: Runner, context: Context) -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    async def on_loop(ctx: Context) -> str:
        variable.set("inside")
        return await asyncio.to_thread(variable.get)

    def in_thread(ctx: Context) -> str:
        return variable.get()

    assert codec.unpack(run(runner, context, on_loop).result) == "inside"
    assert codec.unpack(run(runner, context, in_thread).result) == "outside"


class TestCancel:
    def test_a_coroutine_is_cancelled_where_it_awaits(self, runner: Runner, context: Context) -> None:
        awaiting: Future[None] = Future()
        seen: Seen = []

        async def flow(ctx: Context) -> None:
            try:
                awaiting.set_result(None)
                await asyncio.Event().wait()
            finally:
                seen.append("unwound")

        running = begin(runner, context, flow)
        awaiting.result(PATIENCE)
        running.cancel()
        assert isinstance(running.outcome.result(PATIENCE).error, asyncio.CancelledError)
        assert seen == ["unwound"]

    def test_a_run_that_is_cancelled_before_it_began_ends(self, runner: Runner, context: Context) -> None:
        entered = threading.Event()
        let_go = threading.Event()

        def block() -> None:
            entered.set()
            let_go.wait(PATIENCE)

        runner.loop.call_soon_threadsafe(block)
        assert entered.wait(PATIENCE)
        running = begin(runner, context, add, 1)
        running.cancel()
        let_go.set()
        assert isinstance(running.outcome.result(PATIENCE).error, asyncio.CancelledError)

    def test_code_that_catches_the_cancellation_decides(self, runner: Runner, context: Context) -> None:
        awaiting: Future[None] = Future()

        async def flow(ctx: Context) -> str:
            try:
                awaiting.set_result(None)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "saved"
            return "never"

        running = begin(runner, context, flow)
        awaiting.result(PATIENCE)
        running.cancel()
        assert codec.unpack(running.outcome.result(PATIENCE).result) == "saved"

    def test_a_thread_runs_on_and_the_run_ends_with_it(self, runner: Runner, context: Context) -> None:
        entered, let_go = threading.Event(), threading.Event()
        seen: Seen = []

        def flow(ctx: Context) -> None:
            entered.set()
            let_go.wait(PATIENCE)
            seen.append("ran on")

        running = begin(runner, context, flow)
        assert entered.wait(PATIENCE)
        running.cancel()
        # What comes after the cancellation in the loop's queue has run: the run did not end with it.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), runner.loop).result(PATIENCE)
        assert not running.outcome.done()
        let_go.set()
        assert isinstance(running.outcome.result(PATIENCE).error, asyncio.CancelledError)
        assert seen == ["ran on"]

    def test_what_a_cancelled_thread_raises_in_the_end_is_not_reported_as_forgotten(
        self, runner: Runner, context: Context
    ) -> None:
        entered, let_go = threading.Event(), threading.Event()
        reported: Seen = []

        def flow(ctx: Context) -> None:
            entered.set()
            let_go.wait(PATIENCE)
            raise TaskLost("it is in other hands")

        runner.loop.call_soon_threadsafe(runner.loop.set_exception_handler, lambda _, what: reported.append(what))
        running = begin(runner, context, flow)
        assert entered.wait(PATIENCE)
        running.cancel()
        # The cancellation is there first.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), runner.loop).result(PATIENCE)
        let_go.set()
        assert isinstance(running.outcome.result(PATIENCE).error, asyncio.CancelledError)
        del running
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), runner.loop).result(PATIENCE)
        gc.collect()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), runner.loop).result(PATIENCE)
        assert reported == []

    def test_a_cancelled_run_that_has_ended_stays_as_it_ended(self, runner: Runner, context: Context) -> None:
        running = begin(runner, context, add, 1)
        before = running.outcome.result(PATIENCE)
        running.cancel()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), runner.loop).result(PATIENCE)
        assert running.outcome.result(PATIENCE) == before


class TestGenerators:
    def test_what_can_not_be_written_ends_the_run_and_closes_the_generator(
        self, runner: Runner, context: Context
    ) -> None:
        seen: Seen = []

        async def flow(ctx: Context) -> AsyncIterator[object]:
            try:
                yield object()
            finally:
                seen.append("closed")

        def flow_in_thread(ctx: Context) -> Iterator[object]:
            try:
                yield object()
            finally:
                seen.append("closed")

        for function in (flow, flow_in_thread):
            seen.clear()
            outcome = run(runner, context, function)
            assert isinstance(outcome.error, Unserialisable)
            # Not some time later: its cleanup belongs to the run.
            assert seen == ["closed"]

    @pytest.mark.parametrize("kind", ["coroutine", "thread"])
    def test_a_generator_waits_for_room(self, runner: Runner, outlet: Outlet, kind: str) -> None:
        emitter = outlet.emitter(emit=1000)
        seen: Seen = []

        async def flow(ctx: Context) -> AsyncIterator[str]:
            for number in range(10):
                seen.append(number)
                yield "x" * 600

        def flow_in_thread(ctx: Context) -> Iterator[str]:
            for number in range(10):
                seen.append(number)
                yield "x" * 600

        function = flow if kind == "coroutine" else flow_in_thread
        running = begin(runner, Context("t_1", 1, "flow", None, {}, emitter), function)
        deadline = time.monotonic() + PATIENCE
        taken = 0
        while not running.outcome.done() and time.monotonic() < deadline:
            # No more is written than has room: the bound, and the one event that goes over it.
            assert emitter._unsent <= 1000 + 700
            if emitter.take():
                taken += 1
                emitter.taken()
        assert running.outcome.result(0).error is None
        assert len(seen) == 10
        assert taken >= 5

    async def test_a_generator_that_waits_for_room_is_let_go_when_the_task_is_lost(
        self, runner: Runner, outlet: Outlet
    ) -> None:
        emitter = outlet.emitter(emit=10)

        def flow(ctx: Context) -> Iterator[str]:
            while True:
                yield "x" * 100

        running = begin(runner, Context("t_1", 1, "flow", None, {}, emitter), flow)
        await eventually(lambda: bool(emitter.room._waiters))
        emitter.lose(TaskLost("in other hands"))
        outcome = await asyncio.wait_for(asyncio.wrap_future(running.outcome), PATIENCE)
        assert isinstance(outcome.error, TaskLost)


def test_many_run_at_once(runner: Runner, context: Context) -> None:
    together = threading.Barrier(8)

    def flow(ctx: Context) -> None:
        together.wait(PATIENCE)

    runs = [begin(runner, context, flow) for _ in range(8)]
    assert [each.outcome.result(PATIENCE).error for each in runs] == [None] * 8
