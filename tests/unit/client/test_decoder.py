from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.client.decoder import FrameDecoder
from tailplane.client.endings import Ended, Garbage, Hinted, Hole
from tailplane.client.runs import Run
from tailplane.protocol.events import Event, PlatformType, pack_gap
from tailplane.protocol.frames import encode_frame
from tailplane.protocol.ids import EntryId

ROOM = 1024 * 1024


def fed(decoder: FrameDecoder, raw: bytes) -> list[Event]:
    """What the decoder makes of `raw`, as envelopes."""
    return [event for batch in decoder.feed(raw) for event in (batch.events() if isinstance(batch, Run) else batch)]


def test_keep_alives_and_unknown_notices_are_no_events(wire: Any) -> None:
    decoder = FrameDecoder(0, ROOM)

    assert decoder.feed(wire.keep_alive * 3 + wire.notice(of_a_later_version=1)) == []
    assert (decoder.cursor, decoder.ending) == (0, None)


def test_an_entry_that_was_seen_in_part_gives_the_rest(wire: Any) -> None:
    decoder = FrameDecoder(2, ROOM)

    events = fed(decoder, wire.entry(4, "a", "b", "c", "d") + wire.entry(3, "x"))

    assert [(event.seq, event.data) for event in events] == [(3, "c"), (4, "d")]
    assert (decoder.cursor, decoder.ending) == (4, None)


def test_a_hole_ends_it_after_what_came_before(wire: Any) -> None:
    decoder = FrameDecoder(0, ROOM)

    events = fed(decoder, wire.entry(2, "a", "b") + wire.entry(5, "e") + wire.entry(6, "f"))

    assert [event.seq for event in events] == [1, 2]
    assert decoder.ending == Hole(2, 5)
    assert decoder.cursor == 2


def test_a_gap_that_the_server_tells_of_is_an_event_and_no_hole(wire: Any) -> None:
    decoder = FrameDecoder(1, ROOM)
    gap = encode_frame(EntryId(1, 7), pack_gap(2, 7))

    (event, after) = fed(decoder, gap + wire.entry(8, "h"))

    assert (event.seq, event.type, event.data) == (7, PlatformType.GAP, {"from": 2, "to": 7})
    assert (after.seq, after.data, decoder.ending) == (8, "h", None)


def test_a_gap_that_begins_later_is_a_hole_too(wire: Any) -> None:
    decoder = FrameDecoder(1, ROOM)

    assert fed(decoder, encode_frame(EntryId(1, 7), pack_gap(5, 7))) == []
    assert decoder.ending == Hole(1, 7)


def test_without_a_cursor_the_first_entry_sets_it_and_holes_show_from_there(wire: Any) -> None:
    decoder = FrameDecoder(None, ROOM)

    assert [event.seq for event in fed(decoder, wire.entry(8, "a", "b"))] == [7, 8]
    decoder.feed(wire.entry(10, "c"))
    assert decoder.ending == Hole(8, 10)


def test_the_terminal_event_ends_it(wire: Any) -> None:
    decoder = FrameDecoder(0, ROOM)

    events = fed(decoder, wire.succeeded(1, 42) + b"\xc1 whatever follows")

    assert [event.data for event in events] == [{"result": 42}]
    assert decoder.ending == Ended()


def test_what_the_platform_says_on_the_way_does_not_end_it(wire: Any) -> None:
    decoder = FrameDecoder(0, ROOM)

    (event,) = fed(decoder, wire.platform(1, PlatformType.QUEUED, {"workflow": "w", "version": "1"}))

    assert (event.kind, event.type, decoder.ending) == ("platform", "task.queued", None)


def test_a_workflow_cannot_end_it_by_the_name_of_a_model(wire: Any) -> None:
    meta = {"y": "task.succeeded"}
    decoder = FrameDecoder(0, ROOM)

    (event,) = fed(decoder, msgpack.packb([1, 1, [[0.0, "x", meta]]]))

    assert (event.type, decoder.ending) == ("task.succeeded", None)


def test_a_reconnect_notice_is_told(wire: Any) -> None:
    decoder = FrameDecoder(0, ROOM)
    decoder.feed(wire.notice(reconnect_ms=250))

    assert decoder.ending == Hinted(250)


def test_entries_of_mere_data_come_in_one_run_and_others_as_envelopes(wire: Any) -> None:
    decoder = FrameDecoder(0, ROOM)

    batches = decoder.feed(
        wire.entry(2, "a", "b")
        + wire.entry(3, "c")
        + wire.entry(4, "d", fence=2)
        + wire.platform(5, PlatformType.RETRYING, {})
    )

    assert [(type(batch), len(batch)) for batch in batches] == [(Run, 3), (Run, 1), (list, 1)]
    assert [(event.seq, event.attempt) for event in fed(FrameDecoder(1, ROOM), wire.entry(3, "a", "b", "c"))] == [
        (2, 1),
        (3, 1),
    ]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xc1",  # a byte that msgpack never uses
        b"<html>502 Bad Gateway</html>",
        msgpack.packb("a str"),
        msgpack.packb([1, 2]),
        msgpack.packb([1, "2", [[0.0, 1]]]),
        msgpack.packb([1, 2, []]),
        msgpack.packb([1, 1, [[0.0, 1], [0.0, 2]]]),  # two events can't end with event 1
        msgpack.packb([1, 2, [7]]),
        msgpack.packb([1, 2, [[0.0, 1, "no map"]]]),
        msgpack.packb({"reconnect_ms": None}),
        msgpack.packb(msgpack.ExtType(5, b"x")),
        b"\x91" * 5000,
    ],
)
def test_garbage_ends_it_after_what_came_before(wire: Any, garbage: bytes) -> None:
    decoder = FrameDecoder(0, ROOM)

    events = fed(decoder, wire.entry(1, "good") + garbage)

    assert [event.data for event in events if event.seq == 1] == ["good"]
    assert isinstance(decoder.ending, Garbage)


@pytest.mark.parametrize("cursor", [None, 0])
def test_the_good_part_of_a_bad_entry_is_kept_for_the_next_reading(wire: Any, cursor: int | None) -> None:
    decoder = FrameDecoder(cursor, ROOM)

    events = fed(decoder, wire.entry(1, "a") + msgpack.packb([1, 3, [[0.0, "b"], [0.0]]]))

    assert [event.data for event in events] == ["a"]
    assert decoder.cursor == 1
    assert isinstance(decoder.ending, Garbage)


def test_a_frame_over_the_bound_is_garbage(wire: Any) -> None:
    decoder = FrameDecoder(0, 1000)
    frame = wire.entry(1, "x" * 5000)

    for start in range(0, len(frame), 500):
        if decoder.ending is None:
            assert decoder.feed(frame[start : start + 500]) == []

    assert isinstance(decoder.ending, Garbage)


@given(st.data(), st.lists(st.lists(st.binary(max_size=40) | st.integers(0, 9), min_size=1, max_size=5), max_size=8))
def test_the_cuts_of_the_network_do_not_matter(data: st.DataObject, entries: list[list[object]]) -> None:
    from tailplane.protocol.events import join_events, pack_event
    from tailplane.protocol.frames import encode_frame
    from tailplane.protocol.ids import EntryId

    raw, seq = b"", 0
    for entry in entries:
        seq += len(entry)
        raw += encode_frame(EntryId(1, seq), join_events([pack_event(each) for each in entry]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    decoder = FrameDecoder(0, ROOM)

    events = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)
        for event in fed(decoder, raw[start:end])
    ]

    assert [event.data for event in events] == [each for entry in entries for each in entry]
    assert [event.seq for event in events] == list(range(1, seq + 1))
    assert decoder.ending is None
