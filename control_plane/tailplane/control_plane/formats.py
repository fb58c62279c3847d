"""The formats in which a stream is answered.

Each knows how it shows an entry, a sign of life and the wish to reconnect.
"""

from dataclasses import dataclass
from typing import Protocol

from tailplane.broker import Entry
from tailplane.control_plane.answers import MOST_ACCEPTED
from tailplane.protocol import frames, text_frames
from tailplane.protocol.cursor import Cursor


class Format(Protocol):
    """One format. `encode` shows the events of an entry that follow a cursor."""

    @property
    def media_type(self) -> str:
        """The value of Content-Type."""

    @property
    def keep_alive(self) -> bytes:
        """What tells a reader that the connection lives."""

    def encode(self, entry: Entry, after: Cursor) -> bytes:
        """Return the events of `entry` behind the cursor; for frames, the entry as it is."""

    def reconnect(self, after_ms: int) -> bytes:
        """Return what asks a reader to connect again after a while."""


@dataclass(frozen=True, slots=True)
class Sse:
    """Server-Sent Events: for browsers and curl."""

    media_type: str = text_frames.SSE_TYPE
    keep_alive: bytes = text_frames.SSE_KEEP_ALIVE

    def encode(self, entry: Entry, after: Cursor) -> bytes:
        """Return one message per event."""
        return text_frames.sse_entry(entry.id, entry.payload, after)

    def reconnect(self, after_ms: int) -> bytes:
        """Return the `retry:` field."""
        return text_frames.sse_retry(after_ms)


@dataclass(frozen=True, slots=True)
class Ndjson:
    """One JSON object a line: for other programs."""

    media_type: str = text_frames.NDJSON_TYPE
    keep_alive: bytes = text_frames.NDJSON_KEEP_ALIVE

    def encode(self, entry: Entry, after: Cursor) -> bytes:
        """Return one line per event."""
        return text_frames.ndjson_entry(entry.id, entry.payload, after)

    def reconnect(self, after_ms: int) -> bytes:
        """Return nothing: the end of the response says it."""
        return b""


@dataclass(frozen=True, slots=True)
class Frames:
    """msgpack frames: for our own client. The stored payload passes through undecoded."""

    media_type: str = frames.MSGPACK_TYPE
    keep_alive: bytes = frames.KEEP_ALIVE

    def encode(self, entry: Entry, after: Cursor) -> bytes:
        """Return the whole entry: the reader drops what it has seen."""
        return entry.frame or frames.encode_frame(entry.id, entry.payload)

    def reconnect(self, after_ms: int) -> bytes:
        """Return a notice."""
        return frames.encode_notice({"reconnect_ms": after_ms})


SSE, NDJSON, FRAMES = Sse(), Ndjson(), Frames()
# What each format is asked for by, the most specific first; of several the client likes alike, the first here.
_ASKED_BY: tuple[tuple[Format, tuple[str, ...]], ...] = (
    (SSE, (SSE.media_type, "text/*", "*/*")),
    (NDJSON, (NDJSON.media_type, "application/*", "*/*")),
    (FRAMES, (FRAMES.media_type, "application/*", "*/*")),
)


def choose_format(accept: str) -> Format | None:
    """Return the format that an Accept header likes best (RFC 9110 12.5.1); None: it takes none of ours."""
    liked = _qualities(accept[:MOST_ACCEPTED]) if accept.strip() else {"*/*": 1.0}
    best: tuple[float, Format] | None = None
    for form, names in _ASKED_BY:
        quality = next((liked[name] for name in names if name in liked), 0.0)
        if quality > 0 and (best is None or quality > best[0]):
            best = (quality, form)
    return best[1] if best else None


def _qualities(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        found[name] = next((_quality(piece[2:]) for piece in parameters if piece.startswith("q=")), 1.0)
    return found


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
