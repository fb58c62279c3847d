"""Where a reader stands in a stream, and where it asks to begin. No I/O.

A cursor is one integer: the seq of the last event already seen; 0 stands before the first event. `from=` also takes
words, which the control plane turns into a cursor when the reader arrives.
"""

import re
from dataclasses import dataclass

from tailplane.protocol.errors import InvalidCursor
from tailplane.protocol.ids import MAX_SEQ

Cursor = int
START: Cursor = 0

_NUMBER = re.compile(r"[0-9]{1,19}|-(?!0+$)[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class After:
    """Begin with the event that follows `seq`."""

    seq: Cursor


@dataclass(frozen=True, slots=True)
class Now:
    """Begin with the next event that is written."""


@dataclass(frozen=True, slots=True)
class Last:
    """Begin with the last `count` events of those there are."""

    count: int


Position = After | Now | Last


def parse_position(text: str) -> Position:
    """Return what `from=` or `Last-Event-ID` asks for: a seq, `start`, `now` or `-N`.

    Raises:
        InvalidCursor: it is none of these.
    """
    match text:
        case "start":
            return After(START)
        case "now":
            return Now()
        case _ if _NUMBER.fullmatch(text) and abs(int(text)) <= MAX_SEQ:
            number = int(text)
            return After(number) if number >= 0 else Last(-number)
        case _:
            raise InvalidCursor(f"{text[:80]!r} is not a cursor: use the seq of the last event seen, start, now or -N")


def parse_cursor(text: str) -> Cursor:
    """Return `text` as the seq of the last event seen.

    Raises:
        InvalidCursor: it is no such number.
    """
    match parse_position(text):
        case After(seq):
            return seq
        case _:
            raise InvalidCursor(f"{text[:80]!r} is not a seq: a whole number from 0")
