"""msgpack frames: entries as stored, keep-alives and notices, told apart in one sequence of values."""

from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import codec
from tailplane.protocol.events import join_events, pack_event, split_payload
from tailplane.protocol.frames import KEEP_ALIVE, encode_frame, encode_notice, parse_frame
from tailplane.protocol.ids import MAX_SEQ, EntryId


@given(st.integers(0, MAX_SEQ), st.integers(20, MAX_SEQ), st.lists(st.integers(), max_size=20))
def test_a_frame_is_an_entry_with_its_payload_as_it_is_stored(fence: int, seq: int, numbers: list[int]) -> None:
    payload = join_events([pack_event(str(number)) for number in numbers])
    frame = encode_frame(EntryId(fence, seq), payload)
    assert frame.endswith(payload)
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
