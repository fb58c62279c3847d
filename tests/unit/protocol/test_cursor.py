"""Cursors: what readers may ask for, and what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol.cursor import After, Last, Now, parse_cursor, parse_position
from tailplane.protocol.errors import InvalidCursor
from tailplane.protocol.ids import MAX_SEQ


def test_start_is_before_the_first_event() -> None:
    assert parse_position("start") == parse_position("0") == After(0)


def test_now_is_behind_the_last_event() -> None:
    assert parse_position("now") == Now()


@given(st.integers(min_value=0, max_value=MAX_SEQ))
def test_a_number_is_the_seq_of_the_last_event_seen(seq: int) -> None:
    assert parse_position(str(seq)) == After(seq)
    assert parse_cursor(str(seq)) == seq


@given(st.integers(min_value=1, max_value=MAX_SEQ))
def test_a_negative_number_asks_for_the_last_events(count: int) -> None:
    assert parse_position(str(-count)) == Last(count)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", "--1", "-0", "-00", "+1", "1.0", "1e3", "0x10", "1_000", "START", "Now", "end", "1-1", "1 ", " 1",
        "1\n", "\N{ARABIC-INDIC DIGIT THREE}", str(MAX_SEQ + 1), str(-MAX_SEQ - 1), "9" * 20, "9" * 5000, "1,2", "\x00",
    ],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor, match="is not a cursor"):
        parse_position(text)
    with pytest.raises(InvalidCursor):
        parse_cursor(text)


@given(st.text())
def test_any_text_is_a_position_or_an_invalid_cursor(text: str) -> None:
    with contextlib.suppress(InvalidCursor):
        match parse_position(text):
            case After(seq):
                assert text == "start" or int(text) == seq
            case Last(count):
                assert int(text) == -count
            case Now():
                assert text == "now"


@pytest.mark.parametrize("text", ["now", "-5"])
def test_a_position_that_needs_the_stream_is_no_seq(text: str) -> None:
    with pytest.raises(InvalidCursor, match="is not a seq"):
        parse_cursor(text)


def test_the_start_is_a_seq() -> None:
    assert parse_cursor("start") == 0
