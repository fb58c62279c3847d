"""An entry's events as text are its events as text, one after the other, whatever they hold."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol.events import PlatformType, join_events, pack_event, pack_platform_event, unpack_payload
from tailplane.protocol.ids import EntryId
from tailplane.protocol.text_frames import ndjson_entry, ndjson_event, sse_entry, sse_event

DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.binary(), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(DATA, st.none() | st.text()), min_size=1, max_size=8), st.integers(0, 20))
def test_an_entry_is_its_events(written: list[tuple[object, str | None]], after: int) -> None:
    packed = [pack_event(data, channel) for data, channel in written]
    packed.append(pack_platform_event(PlatformType.CANCELLED, {"reason": None}, attempt=1))
    entry, payload = EntryId(2, 5 + len(packed)), join_events(packed)
    events = unpack_payload(entry, payload, after)
    assert sse_entry(entry, payload, after) == b"".join(map(sse_event, events))
    assert ndjson_entry(entry, payload, after) == b"".join(map(ndjson_event, events))


@pytest.mark.parametrize("data", [msgpack.ExtType(5, b"x"), {"a": msgpack.ExtType(5, b"x")}, {b"\xff": 1}])
def test_what_json_lacks_is_shown_alike(data: object) -> None:
    payload = join_events([pack_event(data)])
    (event,) = unpack_payload(EntryId(1, 3), payload)
    assert sse_entry(EntryId(1, 3), payload, 0) == sse_event(event)
