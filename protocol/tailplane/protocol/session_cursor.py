"""Where a reader stands in the stream of a session, which merges those of its tasks. No I/O.

A session's tasks are numbered 1, 2, 3, ... in the order in which they join it, and shown from their beginning in that
order. So what was seen is told by the highest number begun, and by the cursors of those up to it that have not been
seen to their ends: a cursor's size depends on how many are open, not on how many there were. To users it is one opaque
word; control plane and client both know what is in it.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tailplane.protocol import codec
from tailplane.protocol.cursor import Cursor, Now
from tailplane.protocol.errors import InvalidCursor, InvalidRequest
from tailplane.protocol.ids import MAX_SEQ, TaskId

# Characters of the longest word that is looked at: a cursor with 256 open tasks of a million events has 2,000.
MAX_CHARACTERS = 16 * 1024
# Characters of a task's id that tell it from another one of the same number.
_MARK = 6


@dataclass(frozen=True, slots=True)
class SessionCursor:
    """What a reader of a session has seen.

    Attributes:
        top: the tasks up to this number have been begun; 0: none.
        mark: the end of the id of task `top`: where the store has lost tasks, their numbers are given again.
        open: of those up to `top` that were not seen to their ends, the seq of the last event seen, by number.
    """

    top: int = 0
    mark: str = ""
    open: Mapping[int, Cursor] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        """Return it as the word that is sent, and taken by `parse_session_position`."""
        flat: list[int] = []
        before = 0
        # By their distances: numbers grow with a session, distances do not.
        for number, seq in sorted(self.open.items()):
            flat += (number - before, seq)
            before = number
        return base64.urlsafe_b64encode(codec.pack([self.top, self.mark, flat])).decode().rstrip("=")

    def fits(self, task_id: str) -> bool:
        """Whether the task of number `top` is the one it was."""
        return mark_of(task_id) == self.mark


SessionPosition = SessionCursor | Now


def mark_of(task_id: TaskId | str) -> str:
    """Return what a cursor says of its highest task's id."""
    return task_id[-_MARK:]


def parse_session_position(text: str) -> SessionPosition:
    """Return what `from=` or `Last-Event-ID` asks for: `start`, `now`, or a cursor that was sent before.

    Raises:
        InvalidCursor: it is none of these.
    """
    match text:
        case "start":
            return SessionCursor()
        case "now":
            return Now()
        case _:
            try:
                return _decode(text)
            except (ValueError, TypeError, binascii.Error, InvalidRequest):
                raise InvalidCursor(
                    f"{text[:80]!r} is not a cursor of a session: use one that its stream has sent, start or now"
                ) from None


def _decode(text: str) -> SessionCursor:
    if not text.isascii() or len(text) > MAX_CHARACTERS:
        raise ValueError("too long, or no base 64")
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    # A cursor is a list with one list in it.
    top, mark, flat = codec.unpack_foreign(raw, 2)
    if not _is_count(top) or not isinstance(mark, str) or not isinstance(flat, list):
        raise ValueError("not what a cursor has")
    if len(flat) % 2 or not all(map(_is_count, flat)):
        raise ValueError("not pairs of counts")
    if bool(top) != bool(mark):
        raise ValueError("a task without a mark, or a mark without a task")
    opened: dict[int, Cursor] = {}
    number = 0
    for distance, seq in zip(flat[::2], flat[1::2], strict=True):
        number += distance
        if not distance or number > top:
            raise ValueError("tasks out of order")
        opened[number] = seq
    return SessionCursor(top, mark, MappingProxyType(opened))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEQ
