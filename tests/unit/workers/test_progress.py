"""How far a task is: the latest is told, never floods, and never waits for room."""

import math

import pytest

from tailplane.protocol.errors import BufferFull, TaskLost
from tailplane.protocol.events import Event, Kind, pack_event, unpack_payload
from tailplane.workers.branches import Branch
from tailplane.workers.context import Context
from tailplane.workers.emitter import Emitter
from tailplane.workers.progress import MAX_TEXT

from .conftest import Outlet


def context_over(emitter: Emitter) -> Context:
    return Context("t_1", 1, "flow", None, {}, emitter)


def taken(emitter: Emitter) -> list[Event]:
    append = emitter.take()
    assert append is not None
    emitter.taken()
    return unpack_payload(append.id, append.payload)


def test_it_is_an_event_of_the_platform(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    context_over(emitter).progress(3, 10, "pages")
    (event,) = taken(emitter)
    assert (event.kind, event.type) == (Kind.PLATFORM, "task.progress")
    assert event.data == {"done": 3, "total": 10, "text": "pages"}
    assert outlet.rings == [emitter]


def test_what_is_not_known_is_left_out(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    context_over(emitter).progress(0.5)
    assert taken(emitter)[0].data == {"done": 0.5}


def test_only_the_latest_of_those_that_were_not_sent_is(outlet: Outlet) -> None:
    emitter, seqs = outlet.emitter(), []
    ctx = context_over(emitter)
    for done in range(1000):
        ctx.progress(done, 1000)
    ctx.write_event_to_stream("a")
    events = taken(emitter)
    seqs += [event.seq for event in events]
    assert [event.data for event in events] == ["a", {"done": 999, "total": 1000}]
    ctx.progress(1000, 1000)
    events = taken(emitter)
    assert [event.data for event in events] == [{"done": 1000, "total": 1000}]
    assert [*seqs, events[0].seq] == [3, 4, 5]
    assert emitter.take() is None
    assert emitter.unsent_bytes == 0


def test_it_needs_no_room(outlet: Outlet) -> None:
    emitter = outlet.emitter(task=500)
    ctx = context_over(emitter)
    with pytest.raises(BufferFull):
        while True:
            ctx.write_event_to_stream("x" * 100)
    ctx.progress(1)
    assert taken(emitter)[-1].data == {"done": 1}
    assert emitter.unsent_bytes == 0


async def test_the_last_one_goes_out_with_the_end(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    ctx = context_over(emitter)
    ctx.progress(10, 10)
    (rest,) = (await emitter.seal()).events
    assert b"task.progress" in rest
    with pytest.raises(TaskLost):
        ctx.progress(11, 10)


def test_the_record_s_fields_go_with_their_events_all_the_same(outlet: Outlet) -> None:
    emitter, made = outlet.emitter(), []

    def make(seq: int) -> tuple[bytes, list[bytes | str]]:
        made.append(seq)
        return pack_event(f"commit {seq}"), [f"field {seq}", "set"]

    ctx = context_over(emitter)
    ctx.progress(1)
    emitter.commit(make)
    first = emitter.take()
    assert first is not None
    assert [(event.seq, event.data) for event in unpack_payload(first.id, first.payload)] == [
        (3, "commit 3"),
        (4, {"done": 1}),
    ]
    assert list(first.fields) == ["field 3", "set"]
    emitter.taken()
    ctx.progress(2)
    emitter.commit(make)
    second = emitter.take()
    assert second is not None
    assert (made, second.id.seq, list(second.fields)) == ([3, 5], 6, ["field 5", "set"])


def test_what_stands_already_is_not_said_again(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    emitter.main = Branch("")
    emitter.main.is_replayed = True
    context_over(emitter).progress(1)
    assert emitter.take() is None


def test_a_lost_attempt_is_told(outlet: Outlet) -> None:
    emitter = outlet.emitter()
    context_over(emitter).progress(1)
    emitter.lose(TaskLost("taken over"))
    assert emitter.take() is None
    with pytest.raises(TaskLost):
        context_over(emitter).progress(2)


def test_a_task_that_has_all_its_events_gets_no_more(outlet: Outlet) -> None:
    emitter = outlet.emitter(events=3)
    ctx = context_over(emitter)
    ctx.write_event_to_stream("the last one")
    taken(emitter)
    ctx.progress(1)
    assert emitter.take() is None


def test_a_text_is_cut_and_can_be_sent(outlet: Outlet) -> None:
    emitter = outlet.emitter(event=10_000, entry=10_000)
    context_over(emitter).progress(1, text="ä\ud800" * MAX_TEXT)
    assert taken(emitter)[0].data["text"] == "ä?" * (MAX_TEXT // 2)


@pytest.mark.parametrize("number", [math.nan, math.inf, 2**63, -(2**64)])
def test_a_number_that_nobody_can_show_is_refused(outlet: Outlet, number: float) -> None:
    ctx = context_over(outlet.emitter())
    for arguments in ((number,), (1, number)):
        with pytest.raises(ValueError, match="finite"):
            ctx.progress(*arguments)


@pytest.mark.parametrize("number", ["1", True, None, [1]])
def test_what_is_no_number_is_refused(outlet: Outlet, number: object) -> None:
    with pytest.raises(TypeError):
        context_over(outlet.emitter()).progress(number)  # type: ignore[arg-type]
