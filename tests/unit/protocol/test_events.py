"""The envelope: what is packed into an entry comes out of it as the same events, wherever one resumes."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tailplane.protocol import codec, events
from tailplane.protocol.errors import Unserialisable
from tailplane.protocol.events import (
    TERMINAL_TYPES,
    Event,
    Kind,
    PlatformType,
    join_events,
    pack_event,
    pack_platform_event,
    split_payload,
    unpack_payload,
)
from tailplane.protocol.ids import EntryId
from tailplane.protocol.states import TERMINAL

from .strategies import as_read, text, values


class Progress(BaseModel):
    done: int
    of: int = 10


@given(st.lists(values, min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 1000))
def test_an_entry_holds_its_events_in_order_and_numbers_them_from_its_last(
    written: list[object], fence: int, before: int
) -> None:
    entry = EntryId(fence, before + len(written))
    read = unpack_payload(entry, join_events([pack_event(value) for value in written]))
    assert [event.data for event in read] == [as_read(value) for value in written]
    assert [event.seq for event in read] == list(range(before + 1, entry.seq + 1))
    assert {event.attempt for event in read} == {fence}


@given(st.integers(1, 40), st.integers(0, 100), st.integers(0, 200))
def test_a_reader_that_resumes_inside_an_entry_gets_its_rest(count: int, before: int, after: int) -> None:
    entry = EntryId(1, before + count)
    payload = join_events([pack_event(seq) for seq in range(before + 1, entry.seq + 1)])
    read = unpack_payload(entry, payload, after)
    assert [(event.seq, event.data) for event in read] == [
        (seq, seq) for seq in range(max(before, after) + 1, entry.seq + 1)
    ]
    assert split_payload(entry, codec.unpack(payload), after) == read


@given(text, text | st.none(), text | st.none())
def test_channel_and_step_are_told_where_they_are(data: str, channel: str | None, step: str | None) -> None:
    (event,) = unpack_payload(EntryId(2, 7), join_events([pack_event(data, channel=channel, step=step)]))
    assert (event.data, event.channel, event.step, event.type, event.kind) == (data, channel, step, None, "workflow")


def test_what_is_absent_costs_nothing() -> None:
    bare = codec.unpack(pack_event("x"))
    assert bare == [pytest.approx(time.time(), abs=60), "x"]
    assert codec.unpack(pack_event("x", channel=""))[2] == {"c": ""}


def test_a_model_travels_as_its_fields_under_its_name() -> None:
    packed = pack_event(Progress(done=3), channel="steps")
    (event,) = unpack_payload(EntryId(1, 3), join_events([packed]))
    assert (event.type, event.channel, event.data) == ("Progress", "steps", {"done": 3, "of": 10})


def test_what_the_platform_says_is_told_apart_from_a_model_of_that_name() -> None:
    model = type("task.succeeded", (BaseModel,), {})()
    packed = [pack_event(model), pack_platform_event(PlatformType.SUCCEEDED, {"result": 1})]
    theirs, ours = unpack_payload(EntryId(1, 4), join_events(packed))
    assert (theirs.type, theirs.kind, theirs.is_terminal) == ("task.succeeded", "workflow", False)
    assert (ours.type, ours.kind, ours.is_terminal) == ("task.succeeded", "platform", True)


def test_an_event_tells_its_true_attempt_where_the_fence_is_another() -> None:
    packed = pack_platform_event(PlatformType.CANCELLED, {"reason": None}, attempt=0)
    (event,) = unpack_payload(EntryId(1, 2), join_events([packed]))
    assert event.attempt == 0


def test_each_terminal_state_has_its_event() -> None:
    assert set(TERMINAL_TYPES.values()) == TERMINAL
    assert [type_ for type_ in PlatformType if type_ not in TERMINAL_TYPES] == [
        "task.queued", "task.started", "task.retrying", "task.worker_lost", "task.handed_back", "task.rewind",
        "task.gap", "task.gone", "task.log", "task.step_started", "task.step_retrying", "task.step_finished",
        "task.checkpoint", "task.waiting", "task.received", "task.parked", "task.progress",
    ]  # fmt: skip


@pytest.mark.parametrize("type_", PlatformType)
def test_only_a_terminal_event_of_the_platform_ends_a_stream(type_: PlatformType) -> None:
    assert Event(1, 1, 0.0, None, type=type_, kind=Kind.PLATFORM).is_terminal == (type_ in TERMINAL_TYPES)
    assert not Event(1, 1, 0.0, None, type=type_).is_terminal


def test_the_json_form_leaves_out_what_is_absent() -> None:
    assert Event(3, 1, 2.5, None).as_dict() == {"seq": 3, "attempt": 1, "time": 2.5, "data": None}


def test_the_json_form_names_all_that_there_is() -> None:
    full = Event(3, 1, 2.5, [1], type="T", channel="c", step="s", kind=Kind.PLATFORM)
    assert list(full.as_dict().items()) == [
        ("seq", 3), ("attempt", 1), ("time", 2.5), ("kind", "platform"), ("type", "T"), ("channel", "c"), ("step", "s"),
        ("data", [1]),
    ]  # fmt: skip


@pytest.mark.parametrize("data", [{(1, 2): 3}, [object()], object(), "\ud800", {1, 2}])
def test_an_event_that_readers_could_not_read_is_not_packed(data: object) -> None:
    with pytest.raises(Unserialisable):
        pack_event(data)
    with pytest.raises(Unserialisable):
        pack_event(data, channel="c")


@pytest.mark.parametrize("result", ["done", None, {"n": [1, b"2"]}])
def test_a_result_is_told_as_the_platform_tells_everything(result: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "now", lambda: 1767225600.25)
    told = pack_platform_event(PlatformType.SUCCEEDED, {"result": result})
    assert events.pack_succeeded(codec.pack(result)) == told


def test_an_event_bears_the_time_of_its_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "now", lambda: 12.5)
    packed = [pack_event(1), pack_event(1, step="s"), pack_platform_event(PlatformType.QUEUED, {})]
    assert {event.time for event in unpack_payload(EntryId(0, 3), join_events(packed))} == {12.5}
