"""Counting events in pieces of a response, however it is cut."""

import pytest

from benchmarks.raw_readers import _Reader

EVENT = b'data: {"i":1,"t":12.5,"pad":"xxx"}\n\n'
PACKED = b"\x83\xa1i\x01\xa1t\xcb\x40\x29\x00\x00\x00\x00\x00\x00\xa3pad\xa3xxx"


def pieces(body: bytes, size: int) -> list[bytearray]:
    return [bytearray(body[at : at + size]) for at in range(0, len(body), size)]


@pytest.mark.parametrize(("form", "event"), [("json", EVENT), ("msgpack", PACKED)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 1000])
def test_each_event_is_counted_once(form: str, event: bytes, size: int):
    reader = _Reader(None, form)

    for piece in pieces(event * 10, size):
        reader.take(piece, len(piece))

    assert reader.count == 10


@pytest.mark.parametrize(("form", "event"), [("json", EVENT), ("msgpack", PACKED)])
def test_the_newest_time_of_a_piece_is_found(form: str, event: bytes):
    assert _Reader(None, form).newest(bytearray(event * 2), len(event) * 2) == 12.5


def test_a_time_that_is_cut_off_is_none():
    assert _Reader(None, "json").newest(bytearray(b'{"i":1,"t":12'), 13) == 0.0
    assert _Reader(None, "msgpack").newest(bytearray(PACKED[:8]), 8) == 0.0
