"""The buffer of one attempt: order, bounds, room, and its two ends."""

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest

from tailplane.broker import Append
from tailplane.protocol import codec
from tailplane.protocol.errors import BufferFull, TaskLost, TooLarge, Unserialisable
from tailplane.protocol.events import Event, pack_event, unpack_payload
from tailplane.protocol.ids import EntryId
from tailplane.workers.branches import Branch
from tailplane.workers.budget import Budget
from tailplane.workers.context import Context
from tailplane.workers.emitter import Emitter

from .conftest import PATIENCE, Outlet, eventually

SIZE = len(pack_event("x" * 100))


def events_of(append: Append | None) -> list[Event]:
    assert append is not None
    return unpack_payload(append.id, append.payload)


def data_of(append: Append | None) -> list[object]:
    return [event.data for event in events_of(append)]


def context_over(emitter: Emitter) -> Context:
    return Context("t_1", 1, "flow", None, {}, emitter)


def test_what_was_written_is_taken_in_order_as_one_entry(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    for word in ("a", "b", "c"):
        emitter.write(word)
    append = emitter.take()
    assert append is not None
    assert (append.task, append.id) == (emitter.task, EntryId(1, 5))
    assert [(event.seq, event.data) for event in events_of(append)] == [(3, "a"), (4, "b"), (5, "c")]


def test_channel_and_step_travel_with_the_event(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    emitter.write("a", "stdout", Branch("0/", "load"))
    (event,) = events_of(emitter.take())
    assert (event.channel, event.step) == ("stdout", "load")


def test_the_next_entry_goes_on_where_the_last_one_ended(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    for round_ in range(3):
        emitter.write(round_)
        append = emitter.take()
        emitter.taken()
        assert append is not None
        assert append.id.seq == emitter.seq == 3 + round_


def test_an_entry_holds_no_more_than_its_bound(outlet: Outlet) -> None:
    emitter = outlet.emitter(entry=3 * SIZE + 1)
    for _ in range(7):
        emitter.write("x" * 100)
    sizes = []
    while append := emitter.take():
        emitter.taken()
        sizes.append(len(events_of(append)))
    assert sizes == [3, 3, 1]


def test_an_event_over_the_bound_of_an_entry_travels_alone(outlet: Outlet) -> None:
    emitter = outlet.emitter(entry=SIZE)
    for word in ("a", "x" * 500, "b"):
        emitter.write(word)
    assert data_of(emitter.take()) == ["a"]
    assert data_of(emitter.take()) == ["x" * 500]
    assert data_of(emitter.take()) == ["b"]


def test_the_writer_is_rung_once_until_it_found_nothing_more(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    for word in ("a", "b"):
        emitter.write(word)
    assert outlet.rings == [emitter]
    emitter.take()
    emitter.write("c")
    assert outlet.rings == [emitter]
    emitter.take()
    assert emitter.take() is None
    emitter.write("d")
    assert outlet.rings == [emitter, emitter]


def test_an_event_over_its_bound_is_refused_and_nothing_is_written(outlet: Outlet) -> None:
    emitter = outlet.emitter(event=SIZE)
    emitter.write("x" * 100)
    with pytest.raises(TooLarge) as caught:
        emitter.write("x" * 101)
    assert caught.value.facts == {"size": SIZE + 1}
    assert data_of(emitter.take()) == ["x" * 100]


def test_what_can_not_travel_is_refused_and_nothing_is_written(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    with pytest.raises(Unserialisable):
        emitter.write({"a": object()})
    assert outlet.rings == []
    assert emitter.take() is None


def test_a_full_buffer_refuses_until_redis_has_taken_something(outlet: Outlet) -> None:
    emitter = outlet.emitter(task=3 * SIZE, entry=SIZE)
    for _ in range(3):
        emitter.write("x" * 100)
    with pytest.raises(BufferFull, match="bytes of events wait for Redis") as caught:
        emitter.write("x" * 100)
    assert "emit" in (caught.value.hint or "")
    emitter.take()
    with pytest.raises(BufferFull):
        emitter.write("x" * 100)
    emitter.taken()
    emitter.write("x" * 100)


def test_events_of_one_thread_keep_their_order_among_those_of_others(outlet: Outlet) -> None:
    emitter = outlet.emitter(task=10**9)
    written = 500
    start = threading.Barrier(5)

    def write(name: int) -> None:
        start.wait(PATIENCE)
        for number in range(written):
            emitter.write([name, number])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    start.wait(PATIENCE)
    taken: list[Event] = []
    while any(thread.is_alive() for thread in threads):
        if append := emitter.take():
            emitter.taken()
            taken += events_of(append)
    while append := emitter.take():
        emitter.taken()
        taken += events_of(append)
    assert [event.seq for event in taken] == list(range(3, 3 + 4 * written))
    for name in range(4):
        assert [number for each, number in (event.data for event in taken) if each == name] == list(range(written))


class TestRoom:
    async def test_emit_writes_at_once_while_there_is_room(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=2 * SIZE)
        for _ in range(2):
            await asyncio.wait_for(context_over(emitter).emit("x" * 100), 1)
        assert not emitter.room.is_there

    async def test_emit_waits_until_redis_has_taken_enough(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=2 * SIZE, entry=SIZE)
        for _ in range(3):
            emitter.write("x" * 100)
        waiting = asyncio.ensure_future(context_over(emitter).emit("late"))
        await asyncio.sleep(0)
        emitter.take()
        emitter.taken()
        await asyncio.sleep(0)
        # Two events of three are unsent: no room yet.
        assert not waiting.done()
        emitter.take()
        emitter.taken()
        await asyncio.wait_for(waiting, PATIENCE)
        assert data_of(emitter.take()) == ["x" * 100]
        assert data_of(emitter.take()) == ["late"]

    async def test_all_who_wait_go_on(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=SIZE)
        emitter.write("x" * 100)
        waiting = [asyncio.ensure_future(context_over(emitter).emit(n)) for n in range(5)]
        await asyncio.sleep(0)
        emitter.take()
        emitter.taken()
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
        assert sorted(map(str, data_of(emitter.take()))) == list("01234")

    async def test_who_waits_is_told_when_the_task_is_lost(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=SIZE)
        emitter.write("x" * 100)
        waiting = asyncio.ensure_future(context_over(emitter).emit("late"))
        await asyncio.sleep(0)
        emitter.lose(TaskLost("gone"))
        with pytest.raises(TaskLost, match="gone"):
            await asyncio.wait_for(waiting, PATIENCE)

    async def test_who_waits_is_told_when_the_attempt_is_over(self, outlet: Outlet) -> None:
        # The bound of an entry is the larger one: all that is unsent fits into the last entry.
        emitter = outlet.emitter(emit=SIZE, entry=100 * SIZE)
        emitter.write("x" * 100)
        waiting = asyncio.ensure_future(context_over(emitter).emit("late"))
        await asyncio.sleep(0)
        assert len((await emitter.seal()).events) == 1
        with pytest.raises(TaskLost, match="takes no more events"):
            await asyncio.wait_for(waiting, PATIENCE)

    async def test_a_thread_waits_for_room_too(self, outlet: Outlet, workflows_loop: asyncio.AbstractEventLoop) -> None:
        emitter = outlet.emitter(emit=SIZE)
        emitter.write("x" * 100)
        written: Future[None] = Future()

        def write() -> None:
            context_over(emitter).emit_from_thread("late")
            written.set_result(None)

        thread = threading.Thread(target=write)
        thread.start()
        await eventually(lambda: bool(emitter.room._waiters))
        assert not written.done()
        emitter.take()
        emitter.taken()
        await asyncio.wait_for(asyncio.wrap_future(written), PATIENCE)
        thread.join(PATIENCE)
        assert data_of(emitter.take()) == ["late"]

    async def test_who_gave_up_waiting_does_no_harm(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=SIZE)
        emitter.write("x" * 100)
        waiting = asyncio.ensure_future(context_over(emitter).emit("late"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        # Nor does it take memory: one may give up again and again while Redis is away.
        assert not emitter.room._waiters
        emitter.take()
        emitter.taken()
        await asyncio.sleep(0)
        assert emitter.take() is None

    async def test_who_waited_on_a_loop_that_is_closed_does_no_harm(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=SIZE)
        emitter.write("x" * 100)

        async def give_up() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(context_over(emitter).emit("late"), 0.01)

        # As a workflow in a thread does that runs async code of its own.
        await asyncio.to_thread(asyncio.run, give_up())
        waiting = asyncio.ensure_future(context_over(emitter).emit("in time"))
        await asyncio.sleep(0)
        emitter.take()
        emitter.taken()
        await asyncio.wait_for(waiting, PATIENCE)
        assert data_of(emitter.take()) == ["in time"]


class TestBlock:
    async def test_a_thread_of_a_workflow_that_blocks_waits_before_the_bound(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=SIZE)
        context = replace(context_over(emitter), _blocks=True)
        thread = threading.Thread(target=lambda: [context.write_event_to_stream("x" * 100) for _ in range(50)])
        thread.start()
        taken = 0
        async with asyncio.timeout(PATIENCE):
            while taken < 50:
                if append := emitter.take():
                    taken += len(events_of(append))
                    # One that waits for room, and the one that filled it.
                    assert emitter._unsent <= 2 * SIZE
                    emitter.taken()
                await asyncio.sleep(0)
        thread.join(PATIENCE)

    async def test_the_workflows_loop_is_never_blocked(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=SIZE, task=2 * SIZE)
        context = replace(context_over(emitter), _blocks=True)
        for _ in range(2):
            context.write_event_to_stream("x" * 100)
        with pytest.raises(BufferFull):
            context.write_event_to_stream("x" * 100)


class TestCoalesce:
    def test_texts_are_joined_past_the_emit_bound_and_nothing_is_lost(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=SIZE, entry=100_000, event=50_000, task=100_000, coalesces=True)
        words = [f"word {number} é " for number in range(1000)]
        for word in words:
            emitter.write(word)
        said = data_of(emitter.take())
        assert "".join(map(str, said)) == "".join(words)
        assert len(said) < 20

    def test_other_events_keep_their_place_among_texts(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=1, coalesces=True)
        for data, channel in (
            ("a", None),
            ("b", None),
            (7, None),
            ("c", None),
            ("d", "err"),
            ("e", "err"),
            ("f", None),
        ):
            emitter.write(data, channel)
        events = events_of(emitter.take())
        assert [(event.data, event.channel) for event in events] == [
            ("ab", None), (7, None), ("c", None), ("de", "err"), ("f", None),
        ]  # fmt: skip
        assert [event.seq for event in events] == [3, 4, 5, 6, 7]

    def test_what_is_joined_stays_below_the_bound_of_an_event(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=1, event=300, entry=100_000, coalesces=True)
        for _ in range(50):
            emitter.write("x" * 90)
        append = emitter.take()
        events = events_of(append)
        assert sum(len(event.data) for event in events) == 50 * 90
        assert max(len(pack_event(event.data)) for event in events) <= 300

    def test_the_bound_of_the_buffer_counts_all_the_same(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=1, task=500, event=400, coalesces=True)
        with pytest.raises(BufferFull):
            for _ in range(100):
                emitter.write("x" * 20)
        assert emitter._unsent <= 500
        text = "".join(data_of(emitter.take()))
        assert len(text) >= 380
        emitter.taken()
        assert emitter._unsent == 0

    async def test_what_is_joined_last_is_in_the_last_entry(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(emit=1, coalesces=True)
        for word in "abc":
            emitter.write(word)
        assert [codec.unpack(packed)[1] for packed in (await emitter.seal()).events] == ["abc"]

    def test_below_the_bound_each_text_is_an_event(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(coalesces=True)
        for word in "abc":
            emitter.write(word)
        assert data_of(emitter.take()) == ["a", "b", "c"]


class TestBudget:
    def test_all_attempts_share_what_each_holds_beyond_its_own(self, outlet: Outlet) -> None:
        budget = Budget(300 * 1024)
        first, second = (outlet.emitter(budget, emit=SIZE, task=10**9) for _ in range(2))
        for _ in range(2000):
            first.write("x" * 100)
        with pytest.raises(BufferFull, match="all tasks of this worker"):
            for _ in range(2000):
                second.write("x" * 100)
        while first.take():
            first.taken()
        for _ in range(2000):
            second.write("x" * 100)

    @pytest.mark.parametrize("end", ["taken", "lost", "sealed"])
    async def test_what_was_granted_comes_back(self, outlet: Outlet, end: str) -> None:
        budget = Budget(1024 * 1024)
        emitter = outlet.emitter(budget, emit=SIZE, entry=10**6, task=10**9)
        for _ in range(5000):
            emitter.write("x" * 100)
        assert not budget.take(budget.size)
        match end:
            case "taken":
                while emitter.take():
                    emitter.taken()
            case "lost":
                emitter.lose(TaskLost("in other hands"))
            case "sealed":
                await emitter.seal()
        assert budget.take(budget.size)


class TestOutput:
    @pytest.mark.parametrize(
        ("bound", "message"), [({"events": 12}, "12 events"), ({"output": 1000}, "bytes of events")]
    )
    def test_a_task_that_writes_too_much_is_stopped(self, outlet: Outlet, bound: dict[str, int], message: str) -> None:
        emitter = outlet.emitter(**bound)
        with pytest.raises(TooLarge, match=message):
            for _ in range(100):
                emitter.write("x" * 100)
                emitter.take()
                emitter.taken()
        # Ten, and that one may be on its way when it is found out.
        assert emitter.seq in (11, 12)
        with pytest.raises(TooLarge):
            emitter.write("small")


class TestEnds:
    def test_a_lost_task_refuses_writes_and_drops_what_was_not_sent(self, outlet: Outlet) -> None:
        emitter = outlet.emitter()
        emitter.write("a")
        emitter.lose(TaskLost("in other hands"))
        assert outlet.losses == 1
        assert emitter.take() is None
        with pytest.raises(TaskLost, match="in other hands"):
            emitter.write("b")

    def test_the_first_reason_counts(self, outlet: Outlet) -> None:
        emitter = outlet.emitter()
        emitter.lose(TaskLost("first"))
        emitter.lose(TaskLost("second"))
        with pytest.raises(TaskLost, match="first"):
            emitter.write("b")

    async def test_a_sealed_emitter_hands_over_what_is_left_and_takes_no_more(self, outlet: Outlet) -> None:
        emitter = outlet.emitter()
        emitter.write("a")
        emitter.write("b")
        assert [codec.unpack(packed)[1] for packed in (await emitter.seal()).events] == ["a", "b"]
        with pytest.raises(TaskLost, match="takes no more events"):
            emitter.write("c")
        assert emitter.take() is None

    async def test_the_seal_waits_for_what_is_in_flight(self, outlet: Outlet) -> None:
        emitter = outlet.emitter()
        emitter.write("a")
        emitter.take()
        emitter.write("b")
        sealing = asyncio.ensure_future(emitter.seal())
        await asyncio.sleep(0)
        assert not sealing.done()
        emitter.taken()
        ((left,), _) = await asyncio.wait_for(sealing, PATIENCE)
        assert codec.unpack(left)[1] == "b"
        assert emitter.seq == 3

    async def test_what_is_left_fits_into_one_entry_and_the_rest_is_sent_before(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(entry=3 * SIZE)
        for _ in range(10):
            emitter.write("x" * 100)
        sealing = asyncio.ensure_future(emitter.seal())
        sent = 0
        async with asyncio.timeout(PATIENCE):
            while not sealing.done():
                if append := emitter.take():
                    sent += len(events_of(append))
                    emitter.taken()
                await asyncio.sleep(0)
        left = len(sealing.result().events)
        assert (sent + left, left) == (10, 1)
        assert emitter.seq == 2 + sent

    async def test_a_task_that_is_lost_while_it_is_sealed_leaves_nothing(self, outlet: Outlet) -> None:
        emitter = outlet.emitter()
        emitter.write("a")
        emitter.take()
        emitter.write("b")
        sealing = asyncio.ensure_future(emitter.seal())
        await asyncio.sleep(0)
        emitter.lose(TaskLost("gone"))
        assert await asyncio.wait_for(sealing, PATIENCE) == ([], [])

    async def test_an_emitter_that_wrote_nothing_is_sealed_at_once(self, outlet: Outlet) -> None:
        assert await asyncio.wait_for(outlet.emitter().seal(), PATIENCE) == ([], [])
