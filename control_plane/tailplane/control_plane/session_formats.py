"""How the stream of a session is shown: each format says of what it shows which task it is of. See `formats`."""

from dataclasses import dataclass
from typing import Protocol

from tailplane.broker import Entry
from tailplane.control_plane.formats import FRAMES, NDJSON, SSE, Format
from tailplane.protocol import frames, text_frames
from tailplane.protocol.cursor import Cursor

# What says that a session was closed, its tasks have ended, and all of it was shown.
ENDED = "session.ended"


class SessionFormat(Protocol):
    """One format, for the tasks of a session."""

    @property
    def tells_cursor(self) -> bool:
        """Whether the reader has to be told where it stands; our own client knows."""

    def of_task(self, number: int, task_id: str) -> Format:
        """Return the format that shows one task's entries, alike for all readers of the session."""

    def joined(self, number: int, task_id: str) -> bytes:
        """Return what tells that the entries of a task may follow."""

    def cursor(self, cursor: str) -> bytes:
        """Return what tells the reader where it stands."""

    def ended(self) -> bytes:
        """Return what tells that nothing can follow."""


@dataclass(frozen=True, slots=True)
class _TextFormat:
    """SSE or NDJSON, of one task."""

    base: Format
    task_id: str

    @property
    def media_type(self) -> str:
        """Of its own, for encodings are kept by it."""
        return f"{self.base.media_type};session"

    @property
    def keep_alive(self) -> bytes:
        """As the format's own."""
        return self.base.keep_alive

    def encode(self, entry: Entry, after: Cursor) -> bytes:
        """Return a message or a line per event."""
        encode = text_frames.sse_entry_of if self.base is SSE else text_frames.ndjson_entry_of
        return encode(self.task_id, entry.id, entry.payload, after)

    def reconnect(self, after_ms: int) -> bytes:
        """As the format's own."""
        return self.base.reconnect(after_ms)


@dataclass(frozen=True, slots=True)
class _NumberedFrames:
    """Frames that bear the number of one task."""

    number: int
    media_type: str = f"{FRAMES.media_type};session"
    keep_alive: bytes = FRAMES.keep_alive

    def encode(self, entry: Entry, after: Cursor) -> bytes:
        """Return the whole entry: the reader drops what it has seen."""
        return frames.number_frame(FRAMES.encode(entry, after), self.number)

    def reconnect(self, after_ms: int) -> bytes:
        """As the format's own."""
        return FRAMES.reconnect(after_ms)


@dataclass(frozen=True, slots=True)
class _Text:
    base: Format
    tells_cursor: bool = True

    def of_task(self, number: int, task_id: str) -> Format:
        """See `SessionFormat`: each event says the task's id."""
        return _TextFormat(self.base, task_id)

    def joined(self, number: int, task_id: str) -> bytes:
        """See `SessionFormat`: nothing, its first event says it."""
        return b""

    def cursor(self, cursor: str) -> bytes:
        """See `SessionFormat`."""
        return text_frames.sse_cursor(cursor) if self.base is SSE else text_frames.ndjson_cursor(cursor)

    def ended(self) -> bytes:
        """See `SessionFormat`."""
        said = b'{"kind":"platform","type":"%b"}' % ENDED.encode()
        return b"event: %b\ndata: %b\n\n" % (ENDED.encode(), said) if self.base is SSE else said + b"\n"


@dataclass(frozen=True, slots=True)
class _Frames:
    tells_cursor: bool = False

    def of_task(self, number: int, task_id: str) -> Format:
        """See `SessionFormat`: each frame says the task's number."""
        return _NumberedFrames(number)

    def joined(self, number: int, task_id: str) -> bytes:
        """See `SessionFormat`: a notice that says whose the number is."""
        return frames.encode_notice({"task": [number, task_id]})

    def cursor(self, cursor: str) -> bytes:
        """See `SessionFormat`: nothing, the client counts by itself."""
        return b""

    def ended(self) -> bytes:
        """See `SessionFormat`."""
        return frames.encode_notice({"ended": True})


_BY_FORMAT: dict[str, SessionFormat] = {
    SSE.media_type: _Text(SSE),
    NDJSON.media_type: _Text(NDJSON),
    FRAMES.media_type: _Frames(),
}


def session_format(form: Format) -> SessionFormat:
    """Return how a format shows sessions."""
    return _BY_FORMAT[form.media_type]
