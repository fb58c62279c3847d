"""The cursor of a session is one word, which is read back as what it was and refuses everything else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import codec
from tailplane.protocol.cursor import Now
from tailplane.protocol.errors import InvalidCursor
from tailplane.protocol.ids import MAX_SEQ, new_task_id
from tailplane.protocol.session_cursor import MAX_CHARACTERS, SessionCursor, mark_of, parse_session_position

SEQS = st.integers(0, MAX_SEQ)


@given(st.dictionaries(st.integers(1, 10**9), SEQS, max_size=50), st.integers(0, 1000))
def test_it_is_read_back_as_what_it_was(opened: dict[int, int], more: int) -> None:
    top = max(opened, default=0) + more
    cursor = SessionCursor(top, mark_of(new_task_id()) if top else "", opened)
    assert parse_session_position(str(cursor)) == cursor


def test_the_words_for_places_are_none() -> None:
    assert parse_session_position("start") == SessionCursor()
    assert parse_session_position("now") == Now()


def test_its_size_depends_on_what_is_open_alone() -> None:
    mark = mark_of(new_task_id())
    assert len(str(SessionCursor(1_000_000, mark, {1_000_000: 5}))) < 40
    widest = SessionCursor(10**6, mark, {number * 3900: 10**6 for number in range(1, 257)})
    assert len(str(widest)) < 3_000


@pytest.mark.parametrize("text", ["", "-5", "7", "start ", "k", "kwCg*", "ä", "x" * (MAX_CHARACTERS + 1)])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        parse_session_position(text)


@pytest.mark.parametrize(
    "value",
    [
        None, 3, [], [1, "m"], [1, "m", [1]], [1, "m", [2, 0]], [1, "m", [0, 0]], [-1, "m", []], [1, b"m", []],
        [1, "m", [1, -1]], [1, "m", [1, True]], [True, "m", []], [1, "", []], [0, "m", []], [1, "m", [1, 2**63]],
        [1, "m", {}, 1], [1.0, "m", []], [1, "m", None], [1, "m", b"\x01\x02"], [1, "m", {1: 1, 2: 2}],
    ],
)  # fmt: skip
def test_what_has_another_shape_is_refused(value: object) -> None:
    text = base64.urlsafe_b64encode(codec.pack(value)).decode().rstrip("=")
    with pytest.raises(InvalidCursor):
        parse_session_position(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_cursor_or_refused(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    try:
        found = parse_session_position(text)
    except InvalidCursor:
        return
    assert isinstance(found, Now) or parse_session_position(str(found)) == found


def test_a_mark_tells_tasks_apart() -> None:
    one, other = new_task_id(), new_task_id()
    cursor = SessionCursor(1, mark_of(one), {})
    assert cursor.fits(one)
    assert not cursor.fits(other)
