"""Durable steps: what has finished neither runs nor writes again, whatever becomes of the attempt."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from tailplane.broker.memory import load
from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidInput
from tailplane.protocol.states import State
from tailplane.workers import Context, Retry, step

from .conftest import Bench
from .durability import Gate, lose, run_with_losses, shown


class Page(BaseModel):
    number: int
    text: str


async def test_a_finished_step_neither_runs_nor_writes_again(bench: Bench) -> None:
    ran, gate = Counter[str](), Gate()

    async def flow(ctx: Context) -> str:
        async def say(name: str) -> str:
            ran[name] += 1
            for part in "ab":
                ctx.write_event_to_stream(f"{name}{part}")
                await asyncio.sleep(0)
            if name == "third":
                await gate.pass_or_hang()
            ctx.write_event_to_stream(f"{name}c")
            return name.upper()

        ctx.write_event_to_stream("begin")
        said = [await ctx.step(say, name, name=name) for name in ("first", "second")]
        ctx.write_event_to_stream("between")
        said += [await ctx.step(say, name, name=name) for name in ("third", "fourth")]
        ctx.write_event_to_stream("end")
        return " ".join(said)

    task = await run_with_losses(bench, bench.workflow(flow), gate)
    assert (await bench.record(task)).state is State.SUCCEEDED
    assert ran == {"first": 1, "second": 1, "third": 2, "fourth": 1}
    once = [f"{name}{part}" for name in ("third", "fourth") for part in "abc"]
    assert await shown(bench, task) == [
        "begin", "firsta", "firstb", "firstc", "seconda", "secondb", "secondc", "between", *once, "end",
    ]  # fmt: skip
    written = [event.data for event in await bench.events(task) if event.kind == "workflow"]
    # Only the tail of the step that was open is there twice.
    assert Counter(written) == Counter([*await shown(bench, task), "thirda", "thirdb"])
    (rewind,) = [event for event in await bench.events(task) if event.type == "task.rewind"]
    (started,) = [e for e in await bench.events(task) if e.type == "task.step_started" and e.data["step"] == "third"]
    assert rewind.data == {"to": started.seq, "reason": "worker_lost"}


async def test_a_result_comes_back_as_its_annotation_says(bench: Bench) -> None:
    gate, made = Gate(losses=2), uuid4()

    async def pages() -> list[Page]:
        return [Page(number=1, text="one")]

    def moment() -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC)

    async def pair() -> tuple[int, str]:
        return 1, "a"

    async def plain():  # type: ignore[no-untyped-def]  # what has no annotation comes back as msgpack has it
        return (1, 2)

    seen: list[object] = []

    async def flow(ctx: Context) -> None:
        class Holder(BaseModel):
            mark: UUID

        async def held() -> Holder:
            return Holder(mark=made)

        steps = (pages, moment, pair, plain)
        seen.append([await ctx.step(each) for each in steps])
        assert (await ctx.step(held)).mark == made
        await gate.pass_or_hang()

    await run_with_losses(bench, bench.workflow(flow), gate)
    expected = [[Page(number=1, text="one")], datetime(2026, 1, 2, tzinfo=UTC), (1, "a"), [1, 2]]
    assert seen == [expected] * 3


@dataclass(frozen=True)
class Invoice:
    number: UUID
    cents: Decimal
    due: datetime
    paid: bool = False


class Colour(Enum):
    RED = "red"


_INVOICE = Invoice(UUID(int=7), Decimal("1.10"), datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))


async def returned_twice(bench: Bench, annotation: object, value: object) -> list[object]:
    """Return what a step of that return annotation gives that returns a value: in its attempt, and in the next one."""
    gate, seen = Gate(losses=1), list[object]()

    def made() -> object:
        return value

    made.__annotations__["return"] = annotation

    async def flow(ctx: Context) -> None:
        seen.append(await ctx.step(made))
        await ctx.step(gate.pass_or_hang)

    await run_with_losses(bench, bench.workflow(flow), gate)
    return seen


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Invoice, _INVOICE),
        (list[Invoice], [_INVOICE]),
        (dict[str, tuple[Page, Invoice]], {"a": (Page(number=1, text="one"), _INVOICE)}),
        (UUID, UUID(int=7)),
        (Decimal, Decimal("1.10")),
        (Colour | None, Colour.RED),
        (set[int], {1, 2}),
        (timedelta, timedelta(hours=1, microseconds=1)),
        (Path, Path("/data/page")),
        (date, date(2026, 1, 2)),
        (tuple[bytes, UUID], (b"\xff", UUID(int=7))),
    ],
    ids=str,
)
async def test_what_the_annotation_can_tell_comes_back_as_what_it_was(
    bench: Bench, annotation: object, value: object
) -> None:
    seen = await returned_twice(bench, annotation, value)
    assert seen == [value, value]
    assert [type(each) for each in seen] == [type(value)] * 2


@dataclass(eq=False)
class Reading:
    """Equals nothing but itself."""

    number: UUID
    value: float


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Reading, Reading(UUID(int=7), 1.5)),
        (list[Reading], [Reading(UUID(int=7), math.nan)]),
    ],
    ids=str,
)
async def test_what_equals_nothing_else_comes_back_too(bench: Bench, annotation: object, value: object) -> None:
    seen = await returned_twice(bench, annotation, value)
    assert list(map(repr, seen)) == [repr(value)] * 2


@pytest.mark.parametrize(
    "value", [_INVOICE, {1}, UUID(int=7), [object()], date(2026, 1, 2)], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize("annotation", [None, object, list[int]], ids=str)
async def test_what_no_annotation_can_tell_is_refused_at_once(bench: Bench, annotation: object, value: object) -> None:
    def made():  # type: ignore[no-untyped-def]
        return value

    if annotation is not None:
        made.__annotations__["return"] = annotation

    async def flow(ctx: Context) -> None:
        await ctx.step(made, retries=5)

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await bench.run(workflow)
    error = (await bench.record(task)).error
    assert error is not None
    assert error["code"] == "unserialisable"


async def test_a_model_that_nothing_tells_of_is_refused_at_once(bench: Bench) -> None:
    async def page():  # type: ignore[no-untyped-def]
        return Page(number=1, text="one")

    async def flow(ctx: Context) -> None:
        await ctx.step(page)

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await bench.run(workflow)
    error = (await bench.record(task)).error
    assert error is not None
    assert (error["code"], "nothing says so" in error["message"]) == ("unserialisable", True)


async def test_a_result_that_can_t_be_kept_fails_the_attempt_and_names_the_step(bench: Bench) -> None:
    async def bad(value: object) -> object:
        return value

    async def flow(ctx: Context, what: str) -> None:
        await ctx.step(bad, {"set": {1, 2}, "large": "x" * 100_000}[what], name=f"{what} one")

    workflow = bench.workflow(flow)
    for what, code in (("set", "unserialisable"), ("large", "too_large")):
        task = await bench.submit(workflow, what)
        await bench.run(workflow)
        error = (await bench.record(task)).error
        assert error is not None
        assert (error["code"], f"step {what} one" in error["message"]) == (code, True)


class TestChangedCode:
    @pytest.mark.parametrize("change", ["renamed", "swapped", "inserted", "removed", "shortened"])
    async def test_code_that_does_something_else_is_told(self, bench: Bench, change: str) -> None:
        gate, ran = Gate(), Counter[str]()
        names = {
            "renamed": ["a", "x", "c"], "swapped": ["b", "a", "c"], "inserted": ["a", "x", "b", "c"],
            "removed": ["b", "c"], "shortened": [],
        }[change]  # fmt: skip

        async def flow(ctx: Context) -> str:
            async def work(name: str) -> None:
                ran[name] += 1

            for name in ["a", "b"] if ctx.attempt == 1 else names:
                await ctx.step(work, name, name=name)
            await gate.pass_or_hang()
            return "done"

        task = await run_with_losses(bench, bench.workflow(flow, retries=5), gate)
        record = await bench.record(task)
        # However many retries it has: they would meet the same code.
        assert (record.state, record.attempt) == (State.FAILED, 2)
        assert record.error is not None
        assert record.error["code"] == "workflow_changed"
        assert "attempt 1" in record.error["message"] or "earlier attempt" in record.error["message"]
        assert "hint: run the task again" in record.error["traceback"]
        assert ran == {"a": 1, "b": 1}

    async def test_code_that_catches_it_does_not_get_away(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> str:
            async def work() -> None: ...

            try:
                await ctx.step(work, name="a" if ctx.attempt == 1 else "b")
            except Exception:
                return "as if nothing were"
            await gate.pass_or_hang()
            return "done"

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        record = await bench.record(task)
        assert record.error is not None
        assert record.error["code"] == "workflow_changed"

    async def test_more_steps_behind_those_that_were_there_are_welcome(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> int:
            async def work(number: int) -> int:
                return number

            total = 0
            for number in range(2 if ctx.attempt == 1 else 4):
                total += await ctx.step(work, number)
            await gate.pass_or_hang()
            return total

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert (await bench.record(task)).state is State.SUCCEEDED


class TestTries:
    async def test_a_step_is_tried_again_within_its_attempt_and_shows_its_last_try_only(self, bench: Bench) -> None:
        tries = Counter[str]()

        async def flow(ctx: Context) -> int:
            async def work() -> int:
                tries["work"] += 1
                ctx.write_event_to_stream(f"try {tries['work']}")
                if tries["work"] < 3:
                    raise OSError("not yet")
                return tries["work"]

            ctx.write_event_to_stream("before")
            got: int = await ctx.step(work, retries=2, retry_delay=0.001)
            ctx.write_event_to_stream("after")
            return got

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        record = await bench.record(task)
        assert (record.state, record.attempt) == (State.SUCCEEDED, 1)
        assert await shown(bench, task) == ["before", "try 3", "after"]
        events = await bench.events(task)
        superseded = [event.data for event in events for a, b in record.superseded_ranges if a <= event.seq <= b]
        assert [data for data in superseded if data in ("try 1", "try 2")] == ["try 1", "try 2"]
        assert [event.data["error"]["type"] for event in events if event.type == "task.step_retrying"] == [
            "builtins.OSError"
        ] * 2

    async def test_what_is_raised_at_last_is_raised_by_the_step(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> str:
            async def work() -> None:
                raise KeyError("k", 1)

            try:
                await ctx.step(work, retries=1, retry_delay=0)
            except KeyError as error:
                return repr(error)
            return "?"

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack("KeyError('k', 1)")

    async def test_retry_says_when(self, bench: Bench) -> None:
        tries = Counter[str]()

        async def flow(ctx: Context) -> int:
            async def work() -> int:
                tries["work"] += 1
                if tries["work"] == 1:
                    raise Retry("soon", after=0)
                return tries["work"]

            got: int = await ctx.step(work, retries=1, retry_delay=600, retry_on=ValueError)
            return got

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.record(task)).result == b"\x02"

    async def test_a_failure_that_the_code_went_on_from_is_raised_again_in_a_later_attempt(self, bench: Bench) -> None:
        gate, ran = Gate(), Counter[str]()

        async def flow(ctx: Context) -> str:
            async def first() -> None:
                ran["first"] += 1
                ctx.write_event_to_stream("trying")
                raise LookupError("nothing there")

            async def second() -> str:
                ran["second"] += 1
                return "second"

            try:
                await ctx.step(first)
            except LookupError as error:
                ctx.write_event_to_stream(f"instead of {error}")
                got: str = await ctx.step(second)
            await gate.pass_or_hang()
            return got

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert (await bench.record(task)).state is State.SUCCEEDED
        assert ran == {"first": 1, "second": 1}
        assert await shown(bench, task) == ["trying", "instead of nothing there"]

    async def test_a_failure_that_failed_the_attempt_is_tried_again_by_the_next_one(self, bench: Bench) -> None:
        ran = Counter[str]()

        async def flow(ctx: Context) -> int:
            async def good() -> int:
                ran["good"] += 1
                ctx.write_event_to_stream("good")
                return 1

            async def flaky() -> int:
                ran["flaky"] += 1
                ctx.write_event_to_stream("flaky")
                if ran["flaky"] == 1:
                    raise OSError("away")
                return 1

            return int(await ctx.step(good)) + int(await ctx.step(flaky))

        workflow = bench.workflow(flow, retries=1, retry_delay=0.001)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        await bench.run(workflow)
        assert (await bench.record(task)).result == b"\x02"
        assert ran == {"good": 1, "flaky": 2}
        assert await shown(bench, task) == ["good", "flaky"]


class TestBranches:
    @pytest.mark.parametrize("losses", [1, 3])
    async def test_steps_that_run_at_once_are_told_apart(self, bench: Bench, losses: int) -> None:
        gate, ran, have_one = Gate(losses), Counter[str](), Counter[int]()

        async def flow(ctx: Context) -> list[object]:
            async def work(name: str, delay: int) -> str:
                ran[name] += 1
                for part in range(3):
                    ctx.write_event_to_stream(f"{name} {part}")
                    for _ in range(delay):
                        await asyncio.sleep(0)
                return name

            async def chain(number: int) -> list[str]:
                got = [await ctx.step(work, f"{number} one", 5 - number)]
                have_one[ctx.attempt] += 1
                if number == 2:
                    # What has not finished by the loss runs again, and rightly so.
                    while have_one[ctx.attempt] < 4:
                        await asyncio.sleep(0.001)
                    await ctx.step(gate.pass_or_hang)
                # Which chain comes here first is another one each time.
                await asyncio.sleep(0.001 * ((number + ctx.attempt) % 3))
                got.append(await ctx.step(work, f"{number} two", number))
                return got

            ctx.write_event_to_stream("begin")
            got = await ctx.gather(*(chain(number) for number in range(4)))
            ctx.write_event_to_stream("end")
            return got

        task = await run_with_losses(bench, bench.workflow(flow, retries=9), gate)
        record = await bench.record(task)
        assert (record.state, record.attempt) == (State.SUCCEEDED, losses + 1)
        expected = [f"{number} {place}" for number in range(4) for place in ("one", "two")]
        assert {ran[f"{number} one"] for number in range(4)} == {1}
        assert record.result == codec.pack([[f"{number} one", f"{number} two"] for number in range(4)])
        seen = await shown(bench, task)
        assert (seen[0], seen[-1]) == ("begin", "end")
        assert Counter(seen[1:-1]) == Counter(f"{name} {part}" for name in expected for part in range(3))

    async def test_plain_asyncio_tasks_get_branches_too_and_a_swap_is_told(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> list[str]:
            async def work(name: str) -> str:
                return name

            async def chain(number: int) -> str:
                # In the second attempt the other one comes first.
                await asyncio.sleep(0.01 * (number if ctx.attempt == 1 else 1 - number))
                got: str = await ctx.step(work, str(number))
                return got

            got = await asyncio.gather(*(chain(number) for number in range(2)))
            await gate.pass_or_hang()
            return got

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        record = await bench.record(task)
        assert record.error is not None
        assert record.error["code"] == "workflow_changed"
        assert "other arguments" in record.error["message"]

    async def test_a_step_in_a_step_is_kept_though_the_outer_one_runs_again(self, bench: Bench) -> None:
        gate, ran = Gate(), Counter[str]()

        async def flow(ctx: Context) -> str:
            async def inner() -> str:
                ran["inner"] += 1
                ctx.write_event_to_stream("inner")
                return "in"

            async def outer() -> str:
                ran["outer"] += 1
                ctx.write_event_to_stream("outer")
                got: str = await ctx.step(inner)
                ctx.write_event_to_stream("still outer")
                await gate.pass_or_hang()
                return got + "out"

            got: str = await ctx.step(outer)
            return got

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert ran == {"outer": 2, "inner": 1}
        assert await shown(bench, task) == ["outer", "inner", "still outer"]
        assert (await bench.record(task)).state is State.SUCCEEDED

    async def test_what_raises_first_cancels_the_others(self, bench: Bench) -> None:
        ended: list[str] = []

        async def flow(ctx: Context) -> None:
            async def bad() -> None:
                raise ValueError("bad")

            async def slow() -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append("slow")

            await ctx.gather(ctx.step(slow), ctx.step(bad))

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        error = (await bench.record(task)).error
        assert error is not None
        assert (error["type"], ended) == ("builtins.ValueError", ["slow"])


@step(retries=1, retry_delay=0)
async def doubled(number: int) -> int:
    return 2 * number


class Store:
    @step
    def read(self, key: str) -> str:
        return key * 2


async def test_a_decorated_function_is_a_step_in_a_workflow_and_itself_elsewhere(bench: Bench) -> None:
    gate = Gate()

    async def flow(ctx: Context) -> list[object]:
        got = [await doubled(4), await Store().read("k"), await ctx.step(doubled, 5, name="other")]
        await gate.pass_or_hang()
        return got

    task = await run_with_losses(bench, bench.workflow(flow), gate)
    memory = await load(bench.broker.tasks.wire, bench.broker.keys, task)
    assert [(key, each.name, each.kind) for key, each in sorted(memory.steps.items())] == [
        ("0", "doubled", "step"), ("1", "read", "step"), ("2", "other", "step"),
    ]  # fmt: skip
    assert (await bench.record(task)).result == b"\x93\x08\xa2kk\x0a"
    assert await doubled(1) == 2
    assert Store().read("a") == "aa"


async def test_a_record_tells_when_a_step_ran_and_what_it_wrote(bench: Bench) -> None:
    async def flow(ctx: Context) -> None:
        async def work() -> str:
            ctx.write_event_to_stream("a")
            ctx.write_event_to_stream("b")
            return "done"

        await ctx.step(work)

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await bench.run(workflow)
    (record,) = (await load(bench.broker.tasks.wire, bench.broker.keys, task)).steps.values()
    written = [event for event in await bench.events(task) if event.step == "work"]
    assert record.seqs == (written[0].seq, written[-1].seq)
    assert [event.data for event in written] == ["a", "b"]
    assert record.ended_at is not None
    assert record.ended_at >= record.started_at > 1e9
    assert (record.value, record.attempt) == (b"\xa4done", 1)


async def test_a_task_has_so_many_steps_and_no_more(bench: Bench) -> None:
    few = Bench(replace(bench.platform, limits=replace(bench.platform.limits, calls=3)))

    async def flow(ctx: Context) -> None:
        async def work() -> None: ...

        for _ in range(4):
            await ctx.step(work)

    workflow = few.workflow(flow)
    task = await few.submit(workflow)
    await few.run(workflow)
    error = (await few.record(task)).error
    assert error is not None
    assert error["code"] == "too_large"


async def test_workers_that_were_lost_before_a_step_finished_are_not_held_against_the_task(bench: Bench) -> None:
    gates = [Gate(losses=2), Gate(losses=2)]

    async def flow(ctx: Context) -> str:
        async def work() -> None: ...

        for gate in gates:
            await gate.pass_or_hang()
            await ctx.step(work)
        return "done"

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    for gate in gates:
        for number in (1, 2):
            attempt = await bench.attempt(workflow)
            await lose(bench, attempt, lambda gate=gate, number=number: gate.arrivals >= number)  # type: ignore[misc]
    await bench.run(workflow)
    record = await bench.record(task)
    assert (record.state, record.failures) == (State.SUCCEEDED, 4)


async def test_what_a_gathered_piece_wrote_behind_its_last_step_stands_when_the_code_has_gone_on(bench: Bench) -> None:
    gate = Gate()

    async def flow(ctx: Context) -> None:
        async def work(name: str) -> None:
            ctx.write_event_to_stream(f"{name} step")

        async def piece(name: str) -> None:
            await ctx.step(work, name)
            ctx.write_event_to_stream(f"{name} behind")

        await ctx.gather(piece("a"))
        await ctx.gather(piece("b"))
        await ctx.step(work, "c")
        await gate.pass_or_hang()

    task = await run_with_losses(bench, bench.workflow(flow), gate)
    expected = ["a step", "a behind", "b step", "b behind", "c step"]
    assert await shown(bench, task) == expected
    assert [event.data for event in await bench.events(task) if event.kind == "workflow"] == expected


async def test_an_exception_of_tailplane_s_own_comes_back_whole(bench: Bench) -> None:
    gate = Gate()

    async def flow(ctx: Context) -> str:
        async def refuse() -> None:
            raise InvalidInput("n: not an int", errors=[])

        async def go_on() -> None: ...

        try:
            await ctx.step(refuse)
        except InvalidInput as error:
            said = error.detail
        await ctx.step(go_on)
        await gate.pass_or_hang()
        return said

    task = await run_with_losses(bench, bench.workflow(flow), gate)
    assert (await bench.record(task)).result == codec.pack("n: not an int")
