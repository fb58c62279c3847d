"""msgpack frames: entries as stored, keep-alives and notices, told apart in one sequence of values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import codec
from tailplane.protocol.events import join_events, pack_event, split_payload
from tailplane.protocol.frames import KEEP_ALIVE, encode_frame, encode_notice, frame_head, parse_frame, split_frame
from tailplane.protocol.ids import MAX_SEQ, EntryId


@given(st.integers(0, MAX_SEQ), st.integers(20, MAX_SEQ), st.lists(st.integers(), max_size=20))
def test_a_frame_is_an_entry_with_its_payload_as_it_is_stored(fence: int, seq: int, numbers: list[int]) -> None:
    payload = join_events([pack_event(str(number)) for number in numbers])
    frame = encode_frame(EntryId(fence, seq), payload)
    assert frame.endswith(payload)
    assert split_frame(frame) == (EntryId(fence, seq), payload)
    entry, events = parse_frame(codec.unpack(frame))
    assert entry == EntryId(fence, seq)
    assert [event.data for event in split_payload(entry, events)] == [str(number) for number in numbers]


def test_a_reader_tells_frames_keep_alives_and_notices_apart() -> None:
    payload = join_events([pack_event("x")])
    unpacker = codec.unpacker(1000)
    unpacker.feed(KEEP_ALIVE + encode_frame(EntryId(1, 2), payload) + KEEP_ALIVE + encode_notice({"reconnect_ms": 500}))
    alive, frame, alive_again, notice = unpacker
    assert alive is alive_again is None
    assert parse_frame(frame)[0] == EntryId(1, 2)
    assert notice == {"reconnect_ms": 500}


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, MAX_SEQ])
def test_a_head_is_the_msgpack_of_its_numbers(number: int) -> None:
    assert frame_head(EntryId(number, 1)) == codec.pack([number, 1, 0])[:-1]


def test_a_number_of_more_than_64_bits_makes_no_frame() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        frame_head(EntryId(1, 2**64))
