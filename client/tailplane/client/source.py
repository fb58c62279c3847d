"""What a `Reader` reads: where it is asked for, from where on, and how its frames are decoded. No I/O.

A source remembers, from connection to connection, how far it was read.
"""

from collections.abc import Mapping
from typing import Protocol

from tailplane.client.decoder import FrameDecoder
from tailplane.client.place import Place
from tailplane.client.session_decoder import SessionDecoder
from tailplane.client.transport import path
from tailplane.protocol.cursor import After, Cursor, parse_position
from tailplane.protocol.session_cursor import SessionCursor, parse_session_position

# Of a number in a header that makes sense.
_MOST_DIGITS = 16


class Source(Protocol):
    """A stream of the control plane's."""

    @property
    def name(self) -> str:
        """Whose stream it is, for texts."""
        ...

    @property
    def where(self) -> str:
        """Its path."""
        ...

    @property
    def beginning(self) -> str:
        """What to ask for as `from`: where it is to begin, or go on."""
        ...

    @property
    def header(self) -> str | None:
        """The same as `Last-Event-ID`, where something was seen."""
        ...

    def read_head(self, told: str) -> None:
        """Take what an answer says of where it begins, before the first event has told it."""
        ...

    def decoder(self, max_frame_bytes: int) -> FrameDecoder:
        """Return what decodes the next connection."""
        ...

    def take_over(self, decoder: FrameDecoder) -> bool:
        """Go on where a connection's decoder stands; return whether it has brought anything."""
        ...


class TaskSource:
    """The stream of one task."""

    def __init__(self, task_id: str, start: Cursor | str) -> None:
        """Begin at `start`: a cursor, `start`, `now` or `-N`.

        Raises:
            InvalidCursor: it is none of these.
        """
        position = parse_position(str(start))
        self.name = task_id
        self.where = path("tasks", task_id, "events")
        self._start = str(start)
        # None: `now` and `-N` have no number before the first event; then there is no hole to see, either.
        self.cursor: Cursor | None = position.seq if isinstance(position, After) else None

    @property
    def beginning(self) -> str:
        """See `Source`."""
        return self._start if self.cursor is None else str(self.cursor)

    @property
    def header(self) -> str | None:
        """See `Source`."""
        return str(self.cursor) if self.cursor else None

    def read_head(self, told: str) -> None:
        """See `Source`: where `now` or `-N` begins, so that a loss before the first event loses no event."""
        if self.cursor is None and told.isdecimal() and len(told) < _MOST_DIGITS:
            self.cursor = int(told)

    def decoder(self, max_frame_bytes: int) -> FrameDecoder:
        """See `Source`."""
        return FrameDecoder(self.cursor, max_frame_bytes)

    def take_over(self, decoder: FrameDecoder) -> bool:
        """See `Source`."""
        has_moved = decoder.cursor != self.cursor
        self.cursor = decoder.cursor
        return has_moved


class SessionSource:
    """The streams of a session's tasks, as one."""

    def __init__(self, session_id: str, start: str) -> None:
        """Begin at `start`: a cursor of a session's stream, `start` or `now`.

        Raises:
            InvalidCursor: it is none of these.
        """
        position = parse_session_position(start)
        self.name = session_id
        self.where = path("sessions", session_id, "events")
        self._start = start
        # Where the stream begins; None: not known yet.
        self.first: SessionCursor | None = position if isinstance(position, SessionCursor) else None
        self._place = None if self.first is None else Place(self.first)
        self._seen = 0

    @property
    def beginning(self) -> str:
        """See `Source`."""
        return self._start if self._place is None else str(self._place.cursor) if self._place.cursor.top else "start"

    @property
    def header(self) -> str | None:
        """See `Source`: none, for a header that is as long would only bring the request nearer to a proxy's bound."""
        return None

    def read_head(self, told: str) -> None:
        """See `Source`: where `now` begins."""
        if self._place is None:
            position = parse_session_position(told or "start")
            self.first = position if isinstance(position, SessionCursor) else SessionCursor()
            self._place = Place(self.first)

    def decoder(self, max_frame_bytes: int) -> FrameDecoder:
        """See `Source`."""
        assert self._place is not None
        return SessionDecoder(self._place, max_frame_bytes)

    def take_over(self, decoder: FrameDecoder) -> bool:
        """See `Source`: the place has been moved already."""
        assert self._place is not None
        before, self._seen = self._seen, self._place.moves
        return self._seen > before


def params(source: Source) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the query and the headers by which a source is asked for."""
    # Both: the header is what a proxy may know of, and only the parameter survives every proxy.
    return {"from": source.beginning}, {} if source.header is None else {"last-event-id": source.header}
