"""Where a reader stands in the stream of a session: a cursor that moves. No I/O."""

from types import MappingProxyType

from tailplane.protocol.cursor import Cursor
from tailplane.protocol.session_cursor import SessionCursor, mark_of


class Place:
    """A cursor of a session, event by event.

    Attributes:
        moves: how often it has moved to another event.
    """

    def __init__(self, cursor: SessionCursor) -> None:
        """Begin at `cursor`."""
        self.moves = 0
        self._top, self._mark = cursor.top, cursor.mark
        self._seqs: dict[int, Cursor] = dict(cursor.open)
        self._names: dict[int, str] = {}

    @property
    def cursor(self) -> SessionCursor:
        """Where it stands now."""
        return SessionCursor(self._top, self._mark, MappingProxyType(dict(self._seqs)))

    def join(self, number: int, task_id: str) -> None:
        """Take note that a task's events may follow.

        Raises:
            ValueError: it was seen to its end, or it is another task than the one that had the number.
        """
        if number > self._top:
            # Those in between, if there are any, are gone.
            self._top, self._mark = number, mark_of(task_id)
            self._seqs[number] = 0
        elif number not in self._seqs:
            raise ValueError(f"task {number} was seen to its end")
        if self._names.setdefault(number, task_id) != task_id:
            raise ValueError(f"task {number} is {task_id} now, and was {self._names[number]}")

    def task_id(self, number: int) -> str:
        """Return the id of an open task; KeyError: nothing said that it follows."""
        return self._names[number]

    def seq(self, number: int) -> Cursor:
        """Return the seq of the last event seen of an open task; KeyError: it is not open."""
        return self._seqs[number]

    def move(self, number: int, seq: Cursor, *, is_end: bool) -> None:
        """Take note that a task's events were seen up to `seq`, and whether that was its end."""
        self.moves += 1
        if is_end:
            del self._seqs[number]
            self._names.pop(number, None)
        else:
            self._seqs[number] = seq
