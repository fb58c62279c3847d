"""The time of an entry's first event is found without unpacking the entry."""

import pytest

from tailplane.protocol import codec
from tailplane.protocol.events import (
    PlatformType,
    first_time,
    join_events,
    pack_event,
    pack_platform_event,
    unpack_payload,
)
from tailplane.protocol.ids import EntryId


@pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536])
def test_it_is_that_of_the_first_event(count: int) -> None:
    first, other = pack_event({"a": 1}, channel="x"), pack_event("token")
    payload = join_events([first, *[other] * (count - 1)])
    assert first_time(payload) == unpack_payload(EntryId(1, count), payload)[0].time


def test_events_of_the_platform_have_one_too() -> None:
    payload = join_events([pack_platform_event(PlatformType.STARTED, {})])
    assert first_time(payload) == unpack_payload(EntryId(1, 1), payload)[0].time


@pytest.mark.parametrize("payload", [b"\x91", b"\x91\x92\xcb", codec.pack([[1, "an integer is no double"]])])
def test_what_somebody_else_wrote_has_none(payload: bytes) -> None:
    assert first_time(payload) is None
