"""Waits for messages: each comes once, before the question, after it or during a crash; a long wait parks the task."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import BaseModel

from tailplane.broker.parking import Parked
from tailplane.protocol import codec
from tailplane.protocol.states import State
from tailplane.workers import Context
from tailplane.workers.attempt import Attempt
from tailplane.workers.emitter import Emitter, Sealed

from .conftest import PATIENCE, Bench, eventually
from .durability import Gate, lose, run_with_losses, runs, shown


class Approval(BaseModel):
    approved: bool
    by: str = ""


async def parked_places(bench: Bench) -> list[str]:
    return [each.task.task_id for each in await bench.broker.parking.page(0, 100)]


@pytest.mark.parametrize("when", ["before", "while", "parked"])
async def test_a_message_is_got_whenever_it_comes(bench: Bench, when: str) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def flow(ctx: Context) -> str:
        ctx.write_event_to_stream("may I?")
        loop.call_soon_threadsafe(asked.set)
        answer = await ctx.wait_for_event(Approval)
        assert isinstance(answer, Approval)
        ctx.write_event_to_stream("thanks")
        return f"{answer.approved} {answer.by}"

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    inbox = bench.broker.inbox
    if when == "before":
        await inbox.deliver(task, "Approval", {"approved": True, "by": "ada"})
    attempt = await bench.attempt(workflow)
    running = asyncio.ensure_future(attempt.run())
    await asyncio.wait_for(asked.wait(), PATIENCE)
    if when == "while":
        await inbox.deliver(task, "Approval", {"approved": True, "by": "ada"})
        attempt.note_message()
    if when == "parked":
        await asyncio.wait_for(running, PATIENCE)
        assert (await bench.record(task)).state is State.WAITING
        assert await bench.places(task, workflow) == []
        assert await parked_places(bench) == [task.task_id]
        await inbox.deliver(task, "Approval", {"approved": True, "by": "ada"})
        assert await bench.broker.parking.unpark(Parked(task, workflow.name))
        assert not await bench.broker.parking.unpark(Parked(task, workflow.name))
        running = asyncio.ensure_future((await bench.attempt(workflow)).run())
    await asyncio.wait_for(running, PATIENCE)
    record = await bench.record(task)
    assert (record.state, record.result) == (State.SUCCEEDED, codec.pack("True ada"))
    assert await shown(bench, task) == ["may I?", "thanks"]
    said = await bench.said(task)
    if when == "parked":
        # Nothing was taken back: the question stands, and is not asked again.
        assert said == [
            "task.queued", "task.started", "may I?", "task.waiting", "task.parked", "task.started", "task.received",
            "thanks", "task.succeeded",
        ]  # fmt: skip
        assert (record.attempt, record.failures, record.superseded_ranges) == (2, 0, [])


async def test_a_message_that_comes_while_the_task_is_parked_is_seen(bench: Bench) -> None:
    workflow = bench.workflow(_asks)
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    park = bench.broker.parking.park

    async def park_late(*args: object) -> bool:
        # In the moment between the record, which says that it waits, and its place.
        delivered = await bench.broker.inbox.deliver(task, "Approval", {"approved": False})
        assert delivered.state is State.WAITING
        assert not await bench.broker.parking.unpark(Parked(task, workflow.name))
        return await park(*args)  # type: ignore[arg-type]

    object.__setattr__(bench.platform.broker, "parking", _Overridden(bench.broker.parking, park_late))
    await runs(attempt)
    assert await parked_places(bench) == []
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack(False)


class _Overridden:
    def __init__(self, inner: object, park: object) -> None:
        self._inner = inner
        self.park = park

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


async def _asks(ctx: Context) -> bool:
    answer: Approval = await ctx.wait_for_event(Approval)
    return answer.approved


async def test_what_was_got_is_not_got_again_by_a_later_attempt(bench: Bench) -> None:
    gate = Gate(losses=2)
    got: list[int] = []

    async def flow(ctx: Context) -> list[int]:
        seen = []
        for _ in range(3):
            seen.append(await ctx.wait_for_event("number"))
            got.append(seen[-1])
            if len(seen) == 2:
                await gate.pass_or_hang()
        return seen

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    for number in (1, 2, 3):
        await bench.broker.inbox.deliver(task, "number", number, key=f"key {number}")
        again = await bench.broker.inbox.deliver(task, "number", number, key=f"key {number}")
        assert (again.number, again.is_new) == (number, False)
    for number in (1, 2):
        from .durability import lose

        await lose(bench, await bench.attempt(workflow), lambda number=number: gate.arrivals >= number)  # type: ignore[misc]
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack([1, 2, 3])
    assert got == [1, 2, 1, 2, 1, 2, 3]


async def test_types_are_told_apart_and_each_wait_gets_the_first_of_its_own(bench: Bench) -> None:
    async def flow(ctx: Context) -> list[object]:
        return [
            await ctx.wait_for_event("b"), await ctx.wait_for_event("a"), await ctx.wait_for_event(),
            await ctx.wait_for_event("b"),
        ]  # fmt: skip

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    for number, type_ in enumerate(["a", "b", None, "b"]):
        await bench.broker.inbox.deliver(task, type_, number)
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack([1, 0, 2, 3])


async def test_a_message_that_does_not_fit_is_told_and_the_wait_goes_on(bench: Bench) -> None:
    workflow = bench.workflow(_asks)
    task = await bench.submit(workflow)
    await bench.broker.inbox.deliver(task, "Approval", {"approved": "perhaps"})
    await bench.broker.inbox.deliver(task, "Approval", {"approved": True})
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack(True)
    (refused,) = [event.data for event in await bench.events(task) if event.type == "task.checkpoint"]
    assert "approved" in refused["refused"]["error"]


async def test_what_did_not_fit_is_told_once_and_no_later_wait_gets_it(bench: Bench) -> None:
    gate = Gate(losses=2)

    async def flow(ctx: Context) -> list[object]:
        answer = await ctx.wait_for_event(Approval)
        await gate.pass_or_hang()
        # Of any type: it would get what the first wait had refused, but only where an attempt was lost in between.
        return [answer.approved, await ctx.wait_for_event()]

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    for data in ({"approved": "perhaps"}, {"approved": True}):
        await bench.broker.inbox.deliver(task, "Approval", data)
    await bench.broker.inbox.deliver(task, "other", 3)
    for number in range(1, gate.losses + 1):
        await lose(bench, await bench.attempt(workflow), lambda number=number: gate.arrivals >= number)  # type: ignore[misc]
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack([True, 3])


async def test_a_parked_task_does_not_tell_again_of_what_did_not_fit_each_time_that_it_is_woken(bench: Bench) -> None:
    workflow = bench.workflow(_asks)
    task = await bench.submit(workflow)
    for number in range(3):
        await bench.broker.inbox.deliver(task, "Approval", {"approved": f"perhaps {number}"})
        await runs(await bench.attempt(workflow))
        assert await parked_places(bench) == [task.task_id]
        assert await bench.broker.parking.unpark(Parked(task, workflow.name))
    await bench.broker.inbox.deliver(task, "Approval", {"approved": True})
    await bench.run(workflow)
    events = await bench.events(task)
    told = [event.data["refused"]["number"] for event in events if event.type == "task.checkpoint"]
    assert told == [1, 2, 3]
    # And it is true of every attempt: nothing of it is taken back.
    assert [event.type for event in events if event.type == "task.rewind"] == []


class TestTimeouts:
    async def test_a_wait_ends_in_time_and_a_later_attempt_is_told_the_same(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> str:
            try:
                await ctx.wait_for_event(Approval, timeout=0.01)
            except TimeoutError:
                await gate.pass_or_hang()
                return "nobody answered"
            return "?"

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        from .durability import lose

        await lose(bench, await bench.attempt(workflow), lambda: gate.arrivals >= 1)
        await bench.broker.inbox.deliver(task, "Approval", {"approved": True})
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack("nobody answered")

    async def test_no_time_at_all_gets_what_is_there(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> list[object]:
            got: list[object] = [await ctx.wait_for_event("a", timeout=timedelta())]
            try:
                await ctx.wait_for_event("a", timeout=0)
            except TimeoutError:
                got.append("no more")
            return got

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.broker.inbox.deliver(task, "a", 1)
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack([1, "no more"])

    async def test_a_parked_task_runs_again_when_its_wait_is_over(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> str:
            try:
                await ctx.wait_for_event(Approval, timeout=0.3)
            except TimeoutError:
                return "late"
            return "?"

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        (parked,) = await bench.broker.parking.page(0, 10)
        assert parked == Parked(task, "flow")
        async with asyncio.timeout(PATIENCE):
            while not (due := await bench.broker.parking.due(await bench.broker.queue.now_ms(), 10)):
                await asyncio.sleep(0.01)
        await bench.broker.parking.unpark(due[0])
        await bench.run(workflow)
        assert (await bench.record(task)).result == codec.pack("late")


class TestParking:
    async def test_code_that_does_something_else_beside_is_not_parked(self, bench: Bench) -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def flow(ctx: Context) -> list[object]:
            async def work() -> str:
                # Three times as long as it takes to be parked.
                await asyncio.sleep(0.3)
                loop.call_soon_threadsafe(done.set)
                return "worked"

            return await ctx.gather(ctx.wait_for_event("a"), ctx.step(work))

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        running = asyncio.ensure_future((await bench.attempt(workflow)).run())
        await asyncio.wait_for(done.wait(), PATIENCE)
        # Now all of it waits.
        await asyncio.wait_for(running, PATIENCE)
        assert (await bench.record(task)).state is State.WAITING
        await bench.broker.inbox.deliver(task, "a", 1)
        await bench.broker.parking.unpark(Parked(task, "flow"))
        await bench.run(workflow)
        record = await bench.record(task)
        assert (record.result, record.attempt) == (codec.pack([1, "worked"]), 2)

    async def test_a_wait_in_a_plain_asyncio_task_keeps_its_slot(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> object:
            waiting = asyncio.ensure_future(ctx.wait_for_event("a"))
            await asyncio.sleep(0.3)
            return await waiting

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        running = asyncio.ensure_future((await bench.attempt(workflow)).run())
        await asyncio.sleep(0.3)
        await bench.broker.inbox.deliver(task, "a", 1)
        async with asyncio.timeout(PATIENCE):
            await running
        assert (await bench.record(task)).attempt == 1

    async def test_a_cancelled_parked_task_is_nowhere(self, bench: Bench) -> None:
        workflow = bench.workflow(_asks)
        task = await bench.submit(workflow)
        await runs(await bench.attempt(workflow))
        await bench.broker.queue.withdraw(task, workflow.name, bench.platform.worker)
        assert await parked_places(bench) == []

    async def test_what_is_lost_between_record_and_place_is_begun_again_and_parked(self, bench: Bench) -> None:
        workflow = bench.workflow(_asks)
        task = await bench.submit(workflow)

        async def die(*args: object) -> bool:
            raise ConnectionAbortedError

        broken = bench.broker.parking
        object.__setattr__(bench.platform.broker, "parking", _Overridden(broken, die))
        with pytest.raises(ConnectionAbortedError):
            await runs(await bench.attempt(workflow))
        object.__setattr__(bench.platform.broker, "parking", broken)
        assert (await bench.record(task)).state is State.WAITING
        await bench.broker.queue.reap(bench.platform.worker, leaves=True)
        await bench.register()
        await runs(await bench.attempt(workflow))
        assert await parked_places(bench) == [task.task_id]
        assert (await bench.record(task)).attempt == 2


async def test_messages_of_two_waits_at_once_go_to_one_each(bench: Bench) -> None:
    async def flow(ctx: Context) -> list[object]:
        return await ctx.gather(*(ctx.wait_for_event("n") for _ in range(3)))

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    for number in range(3):
        await bench.broker.inbox.deliver(task, "n", number)
    await bench.run(workflow)
    assert sorted(codec.unpack((await bench.record(task)).result or b"")) == [0, 1, 2]


async def test_an_engine_s_journal_survives_with_what_was_written_before(bench: Bench) -> None:
    gate = Gate()

    async def flow(ctx: Context) -> list[bytes]:
        done = len(ctx.memory.entries)
        for number in range(done, 3):
            ctx.write_event_to_stream(f"tick {number}")
            await ctx.memory.append(b"%d" % number)
            if number == 1:
                ctx.write_event_to_stream("never journaled")
                await gate.pass_or_hang()
        message = await ctx.memory.message(0)
        assert (message.number, message.data) == (1, "hi")
        return ctx.memory.entries

    workflow = bench.workflow(flow)
    from .durability import lose

    task = await bench.submit(workflow)
    await bench.broker.inbox.deliver(task, None, "hi")
    await lose(bench, await bench.attempt(workflow), lambda: gate.arrivals >= 1)
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack([b"0", b"1", b"2"])
    assert await shown(bench, task) == ["tick 0", "tick 1", "tick 2"]


class TestState:
    async def test_it_survives_and_a_checkpoint_lets_what_was_written_stand(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> int:
            for number in range(ctx.state.get("next", 0), 4):
                ctx.write_event_to_stream(number)
                await ctx.state.checkpoint(next=number + 1)
                if number == 1:
                    ctx.write_event_to_stream("half")
                    await gate.pass_or_hang()
            return int(ctx.state.get("next"))

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert (await bench.record(task)).result == codec.pack(4)
        assert await shown(bench, task) == [0, 1, 2, 3]

    async def test_what_is_set_is_not_undone_and_lets_nothing_stand(self, bench: Bench) -> None:
        gate = Gate()

        async def flow(ctx: Context) -> object:
            ctx.write_event_to_stream("before")
            await ctx.state.set("attempts", ctx.state.get("attempts", 0) + 1)
            await gate.pass_or_hang()
            return ctx.state.get("attempts")

        task = await run_with_losses(bench, bench.workflow(flow), gate)
        assert (await bench.record(task)).result == codec.pack(2)
        assert await shown(bench, task) == ["before"]

    async def test_what_can_t_be_kept_is_refused(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> list[str]:
            said = []
            for name, value in (("", 1), ("x" * 201, 1), ("a", {1}), ("a", "x" * 100_000)):
                try:
                    await ctx.state.set(name, value)
                except Exception as error:
                    said.append(type(error).__name__)

            async def work() -> None: ...

            await ctx.step(work)
            try:
                await ctx.state.checkpoint(a=1)
            except Exception as error:
                said.append(type(error).__name__)
            return said

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        expected = ["InvalidRequest", "InvalidRequest", "Unserialisable", "TooLarge", "InvalidRequest"]
        assert (await bench.record(task)).result == codec.pack(expected)


async def test_a_message_that_comes_in_the_moment_of_parking_is_not_missed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = bench.workflow(_asks)
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    seal = Emitter.seal

    async def seal_late(self: Emitter) -> Sealed:
        # It is there, and known to the code, when the attempt is closed already.
        sealed = await seal(self)
        await bench.broker.inbox.deliver(task, "Approval", {"approved": True})
        attempt.note_message()
        await eventually(lambda: _known(attempt) == 1)
        return sealed

    with monkeypatch.context() as patched:
        patched.setattr(Emitter, "seal", seal_late)
        await runs(attempt)
    assert await parked_places(bench) == []
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack(True)


@pytest.mark.parametrize("timeout", [float("inf"), 1e308])
async def test_a_wait_without_end_is_parked_without_end(bench: Bench, timeout: float) -> None:
    async def flow(ctx: Context) -> object:
        return await ctx.wait_for_event(timeout=timeout)

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await runs(await bench.attempt(workflow))
    assert await parked_places(bench) == [task.task_id]
    await bench.broker.deliveries.deliver(task, None, 1)
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack(1)


def _known(attempt: "Attempt") -> int:
    survival = attempt._survival
    return 0 if survival is None or survival.durable is None else survival.durable.arrivals.count
