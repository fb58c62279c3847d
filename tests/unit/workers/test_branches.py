"""Branches: which durable call is whose next, who wrote what, and what of it a later attempt writes again."""

import asyncio
from collections import Counter

import pytest

from tailplane.broker.memory import load
from tailplane.protocol import codec
from tailplane.protocol.states import State
from tailplane.workers import Context
from tailplane.workers.branches import CURRENT, Branch, running

from .conftest import Bench
from .durability import Gate, lose, run_with_losses, runs, shown


class TestABranch:
    def test_events_in_a_row_are_one_range(self) -> None:
        branch = Branch("")
        for seq in (3, 4, 5, 8, 9):
            branch.note(seq)
        branch.note_all(6, 6)
        assert branch.runs == [(3, 6), (8, 9)]

    def test_its_calls_are_numbered_within_it(self) -> None:
        branch = Branch("4.1/")
        assert branch.next_id == "4.1/0"
        branch.next += 1
        assert branch.next_id == "4.1/1"

    def test_what_the_tasks_begun_in_it_wrote_is_taken_with_its_own_and_once(self) -> None:
        branch, spawned = Branch(""), Branch("0~0/")
        branch.below.append(spawned)
        assert not branch.has_written
        spawned.note(4)
        assert branch.has_written
        branch.note(3)
        branch.note(7)
        assert branch.take_runs() == [(3, 4), (7, 7)]
        assert (branch.take_runs(), branch.has_written) == ([], False)

    def test_it_waits_if_all_of_its_parts_do(self) -> None:
        branch = Branch("")
        assert list(branch.waits()) == [None]
        branch.parts = [Branch("0.0/"), Branch("0.1/"), Branch("0.2/")]
        branch.parts[0].waits_since = 2.0
        assert list(branch.waits()) == [2.0, None, None]
        branch.parts[1].waits_since = 3.0
        branch.parts[2].has_ended = True
        assert list(branch.waits()) == [2.0, 3.0]

    def test_code_runs_in_it_until_it_has_ended_however_it_does(self) -> None:
        outer, inner = Branch(""), Branch("0/")
        with running(outer):
            with pytest.raises(ValueError, match="no"), running(inner):
                assert CURRENT.get() is inner
                raise ValueError("no")
            assert (inner.has_ended, outer.has_ended) == (True, False)
            assert CURRENT.get() is outer
        assert CURRENT.get() is None


class TestWhatPiecesWrite:
    @pytest.mark.parametrize("losses", [1, 2])
    async def test_what_a_piece_writes_behind_its_last_step_stands_once_the_code_has_gone_on(
        self, bench: Bench, losses: int
    ) -> None:
        gate = Gate(losses)

        async def flow(ctx: Context) -> None:
            async def work() -> None: ...

            async def piece(name: str) -> None:
                await ctx.step(work)
                ctx.write_event_to_stream(f"{name} done")

            await ctx.gather(piece("a"), piece("b"))
            await ctx.step(work)
            await gate.pass_or_hang()

        task = await run_with_losses(bench, bench.workflow(flow, retries=3), gate)
        written = [event.data for event in await bench.events(task) if event.kind == "workflow"]
        assert sorted(map(str, written)) == ["a done", "b done"]
        assert sorted(map(str, await shown(bench, task))) == ["a done", "b done"]

    async def test_before_the_code_has_gone_on_it_is_written_again_and_shown_once(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> None:
            async def work() -> None: ...

            async def piece() -> None:
                await ctx.step(work)
                ctx.write_event_to_stream("done")

            await ctx.gather(piece())
            await gate.pass_or_hang()

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert await shown(bench, task) == ["done"]

    async def test_what_is_written_beside_a_wait_that_parks_is_shown_once(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> object:
            async def work() -> None: ...

            async def piece() -> None:
                await ctx.step(work)
                ctx.write_event_to_stream("done")

            return await ctx.gather(ctx.wait_for_event("a"), piece())

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        assert (await bench.record(task)).state is State.WAITING
        await bench.broker.inbox.deliver(task, "a", 1)
        (parked,) = await bench.broker.parking.page(0, 10)
        await bench.broker.parking.unpark(parked)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack([1, None])
        assert await shown(bench, task) == ["done"]

    async def test_a_step_keeps_what_the_pieces_and_tasks_in_it_wrote(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> None:
            async def inner(name: str) -> None:
                ctx.write_event_to_stream(name)

            async def chain(name: str) -> None:
                await ctx.step(inner, name)
                ctx.write_event_to_stream(f"{name} done")

            async def outer() -> None:
                await ctx.gather(chain("a"))
                await asyncio.gather(chain("b"))

            await ctx.step(outer)
            await gate.pass_or_hang()

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert await shown(bench, task) == ["a", "a done", "b", "b done"]

    async def test_a_try_takes_back_what_the_tasks_in_it_wrote(self, bench: Bench) -> None:
        tries = Counter[str]()

        async def flow(ctx: Context) -> None:
            async def inner() -> None: ...

            async def chain() -> None:
                await ctx.step(inner)
                ctx.write_event_to_stream("chained")

            async def outer() -> None:
                tries["outer"] += 1
                await asyncio.gather(chain())
                if tries["outer"] == 1:
                    raise OSError("not yet")

            await ctx.step(outer, retries=1, retry_delay=0)

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert await shown(bench, task) == ["chained"]


class TestFailuresOfPieces:
    async def test_what_the_code_went_on_from_is_raised_again_and_no_piece_runs_again(self, bench: Bench) -> None:
        gate, ran = Gate(), Counter[str]()

        async def flow(ctx: Context) -> str:
            async def flaky() -> None:
                ran["flaky"] += 1
                if ran["flaky"] == 1:
                    raise LookupError("nothing there")

            async def hanging() -> None:
                ran["hanging"] += 1
                ctx.write_event_to_stream("half")
                await asyncio.Event().wait()

            async def second(why: str) -> str:
                return f"instead of {why}"

            try:
                await ctx.gather(ctx.step(hanging), ctx.step(flaky))
            except LookupError as error:
                got: str = await ctx.step(second, str(error))
            await gate.pass_or_hang()
            return got

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        record = await bench.record(task)
        assert (record.state, record.result) == (State.SUCCEEDED, codec.pack("instead of nothing there"))
        assert ran == {"flaky": 1, "hanging": 1}
        assert await shown(bench, task) == ["half"]

    async def test_what_was_returned_as_an_exception_is_returned_again(self, bench: Bench) -> None:
        gate, ran = Gate(), Counter[str]()

        async def flow(ctx: Context) -> list[str]:
            async def flaky() -> int:
                ran["flaky"] += 1
                if ran["flaky"] == 1:
                    raise LookupError("nothing there")
                return 1

            async def second() -> None: ...

            got = await ctx.gather(ctx.step(flaky), return_exceptions=True)
            await ctx.step(second)
            await gate.pass_or_hang()
            return [repr(each) for each in got]

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert (await bench.record(task)).result == codec.pack(["LookupError('nothing there')"])
        assert ran == {"flaky": 1}

    async def test_a_failure_that_failed_the_attempt_is_forgotten_when_the_next_one_does_better(
        self, bench: Bench
    ) -> None:
        gate, ran = Gate(), Counter[str]()

        async def flow(ctx: Context) -> list[object]:
            async def flaky() -> int:
                ran["flaky"] += 1
                if ran["flaky"] == 1:
                    raise OSError("away")
                return 1

            async def second() -> None: ...

            got = await ctx.gather(ctx.step(flaky))
            await ctx.step(second)
            await gate.pass_or_hang()
            return got

        workflow = bench.workflow(flow, retries=1, retry_delay=0.001)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        await lose(bench, await bench.attempt(workflow), lambda: gate.arrivals >= 1)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack([1])
        assert ran == {"flaky": 2}


async def test_tasks_that_a_step_starts_are_told_apart_whichever_comes_first(bench: Bench) -> None:
    gate = Gate()

    async def flow(ctx: Context) -> list[str]:
        async def work(name: str) -> str:
            return name

        async def chain(number: int) -> str:
            # In the second attempt the other one comes first.
            await asyncio.sleep(0.01 * (number if ctx.attempt == 1 else 1 - number))
            got: str = await ctx.step(work, str(number))
            return got

        async def outer() -> list[str]:
            got = await asyncio.gather(*(chain(number) for number in range(2)))
            await gate.pass_or_hang()
            return got

        got: list[str] = await ctx.step(outer)
        return got

    task = await run_with_losses(bench, bench.workflow(flow), gate)
    error = (await bench.record(task)).error
    assert error is not None
    assert (error["code"], "other arguments" in error["message"]) == ("workflow_changed", True)
    steps = (await load(bench.broker.tasks.wire, bench.broker.keys, task)).steps
    assert {"0/0~0/0", "0/0~1/0"} <= steps.keys()


class TestGather:
    async def test_no_pieces_are_an_empty_list(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> list[object]:
            return await ctx.gather()

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack([])

    async def test_what_can_t_be_awaited_fails_by_name(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            await ctx.gather(1, ctx.step(asyncio.sleep, 0))  # type: ignore[arg-type]  # as an author does by mistake

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        error = (await bench.record(task)).error
        assert error is not None
        assert (error["type"], "int" in error["message"]) == ("builtins.TypeError", True)

    async def test_code_with_another_number_of_pieces_is_told(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> None:
            async def work() -> None: ...

            await ctx.gather(*(ctx.step(work) for _ in range(ctx.attempt)))
            await gate.pass_or_hang()

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        error = (await bench.record(task)).error
        assert error is not None
        assert (error["code"], "gather 2" in error["message"]) == ("workflow_changed", True)
