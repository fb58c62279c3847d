"""What may be a step, what of its result and its failure comes back, and what is refused by name."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tailplane.protocol import codec
from tailplane.protocol.errors import QueueFull, StepFailed
from tailplane.protocol.states import State
from tailplane.workers import Context, step
from tailplane.workers.values import pack_error, restore_error

from .conftest import Bench
from .durability import Gate, run_with_losses


class Page(BaseModel):
    number: int


class Adder:
    __hash__ = None  # type: ignore[assignment]  # as an object has that says what it equals

    def __eq__(self, other: object) -> bool:
        return self is other

    async def __call__(self, number: int) -> Page:
        return Page(number=number + 1)

    async def add(self, number: int) -> Page:
        return Page(number=number + 1)

    @staticmethod
    def add_one(number: int) -> Page:
        return Page(number=number + 1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"timeout": 5}, "@step has no option 'timeout'; it has name, retries, retry_delay, retry_on"),
        ({"retries": "2"}, "retries must be a whole number, not '2'"),
        ({"retry_delay": "1s"}, "retry_delay must be a timedelta, or a number of seconds, not '1s'"),
        ({"retry_on": [ValueError]}, "retry_on must be a class of exceptions, or a tuple of such classes, not "),
    ],
)
def test_options_that_mean_nothing_are_refused_where_they_are_declared(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        step(**options)(Adder.add_one)


async def add(number: int, more: int = 1) -> Page:
    return Page(number=number + more)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (add, "add"),
        (functools.partial(add, more=1), "add"),
        (Adder(), "Adder"),
        (Adder().add, "add"),
        (Adder.add_one, "add_one"),
        (functools.partial(Page, number=2), "Page"),
    ],
    ids=["function", "partial", "object", "method", "static", "class"],
)
async def test_whatever_can_be_called_is_a_step(bench: Bench, function: Callable[..., Any], name: str) -> None:
    gate, got = Gate(), list[object]()

    async def flow(ctx: Context) -> str:
        arguments = () if name == "Page" else (1,)
        got.append(await ctx.step(function, *arguments))
        await gate.pass_or_hang()
        return "done"

    task = await run_with_losses(bench, bench.workflow(flow), gate)
    assert (await bench.record(task)).state is State.SUCCEEDED
    assert got == [Page(number=2)] * 2
    started = [event.data["step"] for event in await bench.events(task) if event.type == "task.step_started"]
    assert started == [name]


async def fails(bench: Bench, flow: Callable[..., Any]) -> dict[str, Any]:
    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await bench.run(workflow)
    error = (await bench.record(task)).error
    assert error is not None
    return dict(error)


class TestRefusals:
    async def test_what_can_be_read_only_once_is_no_result(self, bench: Bench) -> None:
        async def numbers() -> AsyncIterator[int]:
            yield 1

        def plain() -> Iterator[int]:
            yield 1

        for function in (numbers, plain):

            async def flow(ctx: Context, function: Callable[[], object] = function) -> None:
                await ctx.step(function)

            error = await fails(bench, flow)
            assert (error["code"], "only once" in error["message"]) == ("unserialisable", True)

    async def test_what_does_not_fit_its_own_annotation_is_told_at_once(self, bench: Bench) -> None:
        async def work() -> int:
            return "no number"  # type: ignore[return-value]

        async def flow(ctx: Context) -> None:
            await ctx.step(work)

        error = await fails(bench, flow)
        assert (error["code"], "step work" in error["message"]) == ("unserialisable", True)

    @pytest.mark.parametrize(
        ("name", "kind"), [(5, "TypeError"), ("x" * 201, "ValueError"), ("\ud800", "Unserialisable")]
    )
    async def test_a_name_that_will_not_do_is_refused(self, bench: Bench, name: Any, kind: str) -> None:
        async def flow(ctx: Context) -> None:
            await ctx.step(add, 1, name=name)

        assert (await fails(bench, flow))["type"].endswith(kind)

    async def test_nobody_waits_for_what_is_no_model_and_no_name(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            await ctx.wait_for_event(int)  # type: ignore[type-var]  # as an author does by mistake

        error = await fails(bench, flow)
        assert (error["type"], "pydantic model" in error["message"]) == ("builtins.TypeError", True)


class TestThreads:
    @pytest.mark.parametrize("what", ["step", "decorated", "gather", "wait", "child", "set", "checkpoint"])
    async def test_a_sync_workflow_is_told_that_it_can_t_await(self, bench: Bench, what: str) -> None:
        @step
        def decorated() -> int:
            return 1

        def flow(ctx: Context) -> None:
            match what:
                case "step":
                    ctx.step(add, 1)
                case "decorated":
                    decorated()
                case "gather":
                    ctx.gather()
                case "wait":
                    ctx.wait_for_event("a")
                case "child":
                    ctx.run_child("other")
                case "set":
                    ctx.state.set("a", 1)
                case "checkpoint":
                    ctx.state.checkpoint(a=1)

        error = await fails(bench, flow)
        assert (error["type"], "async def" in error["message"]) == ("builtins.RuntimeError", True)

    async def test_a_decorated_function_that_a_step_s_thread_calls_is_a_part_of_that_step(self, bench: Bench) -> None:
        @step
        def inner() -> int:
            return 1

        @step
        def outer() -> int:
            return inner() + 1

        async def flow(ctx: Context) -> int:
            return int(await outer())

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack(2)

    async def test_a_sync_workflow_may_read_its_state(self, bench: Bench) -> None:
        def flow(ctx: Context) -> object:
            return ctx.state.get("a", "nothing")

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack("nothing")


class Odd(Exception):
    def __new__(cls, *args: object) -> "Odd":
        if args:
            raise TypeError("made by nobody else")
        return super().__new__(cls)


class TestErrors:
    def test_one_of_a_known_class_comes_back_as_that_with_its_arguments(self) -> None:
        error = restore_error(pack_error(KeyError("k", 1)))
        assert (type(error), error.args) == (KeyError, ("k", 1))

    def test_one_that_nobody_may_make_comes_back_by_its_name(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Page(number="x")  # type: ignore[arg-type]
        error = restore_error(pack_error(caught.value))
        assert isinstance(error, StepFailed)
        assert "ValidationError" in error.detail
        kept = pack_error(Odd())
        assert isinstance(restore_error({**kept, "args": ["a"]}), StepFailed)

    def test_one_of_our_own_has_its_words(self) -> None:
        error = restore_error(pack_error(QueueFull("too many wait")))
        assert isinstance(error, QueueFull)
        assert error.detail == "too many wait"

    def test_one_of_a_class_that_is_not_loaded_is_named(self) -> None:
        error = restore_error({"type": "gone.Error", "message": "no", "args": []})
        assert (type(error), str(error)) == (StepFailed, "gone.Error: no")

    def test_words_that_can_t_be_sent_are_left_out(self) -> None:
        kept = pack_error(ValueError("\ud800"))
        assert codec.unpack(codec.pack(kept)) == kept

    async def test_a_step_may_raise_anything_and_the_attempt_fails_by_its_name(self, bench: Bench) -> None:
        async def work() -> None:
            raise OSError("\ud800", {1})

        async def flow(ctx: Context) -> None:
            await ctx.step(work)

        assert (await fails(bench, flow))["type"] == "builtins.OSError"


async def test_a_step_that_calls_itself_is_a_step_each_time(bench: Bench) -> None:
    async def flow(ctx: Context) -> int:
        async def down(number: int) -> int:
            return 0 if number == 0 else 1 + int(await ctx.step(down, number - 1))

        got: int = await ctx.step(down, 5)
        return got

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack(5)
    assert (await bench.said(task)).count("task.step_finished") == 6


async def test_threads_of_a_step_write_in_its_name_and_once(bench: Bench) -> None:
    gate = Gate()

    async def flow(ctx: Context) -> None:
        def work() -> None:
            ctx.write_event_to_stream("from a thread")

        async def other() -> None:
            await asyncio.to_thread(ctx.write_event_to_stream, "from another")

        await ctx.step(work)
        await ctx.step(other)
        await gate.pass_or_hang()

    task = await run_with_losses(bench, bench.workflow(flow), gate)
    written = [(event.step, event.data) for event in await bench.events(task) if event.kind == "workflow"]
    assert written == [("work", "from a thread"), ("other", "from another")]
