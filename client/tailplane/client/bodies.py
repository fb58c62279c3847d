"""The three forms in which HTTP/1.1 sends a body, decoded as their bytes come in, however they are split. No I/O.

RFC 9112, 6 and 7: chunked, of a given length, or up to the connection's end. Chunk extensions and trailers are read
over; anything else that does not belong there is refused.
"""

import re
from typing import Literal, Protocol

# Digits, then what some servers pad or extend them with. 15 digits are 2 ** 60 bytes, and never overflow anything.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;[^\r\n]*+)?\r\n")
_TRAILER = re.compile(rb"[^\r\n]*+\r\n")
# A line without end must not fill the memory, and nor must lines without end.
_LONGEST_LINE = 4096
_MOST_TRAILERS = 128


class Body(Protocol):
    """Decodes one body.

    Attributes:
        is_complete: whether nothing of it is missing.
        failure: why it will never be complete, or None; what was content before that has been given.
        excess: what came after its end.
    """

    is_complete: bool
    failure: str | None
    excess: bytes

    def feed(self, data: bytes) -> bytes:
        """Return what `data` holds of the content."""
        ...

    def end(self) -> None:
        """Take note that the connection has ended."""
        ...


class ChunkedBody:
    """`Transfer-Encoding: chunked`."""

    def __init__(self) -> None:
        self.is_complete = False
        self.failure: str | None = None
        self.excess = b""
        self._awaits: Literal["size", "content", "mark", "trailer"] = "size"
        # What came of a line, or of the mark after a chunk, and can't be understood before more comes.
        self._held = b""
        # Of the present chunk's content.
        self._left = 0
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """Return what `data` holds of the content."""
        if self._awaits == "size" and not self._held:
            # One whole chunk, as a stream sends them whose events come one by one: nothing else need be looked at.
            line = _CHUNK.match(data)
            if line is not None:
                begin = line.end()
                end = begin + int(line[1], 16)
                if begin < end == len(data) - 2 and data.endswith(b"\r\n"):
                    return data[begin:end]
        return self._feed_pieces(data)

    def end(self) -> None:
        """Take note that the connection has ended."""
        if not self.is_complete:
            self.failure = self.failure or "the connection ended in the middle of a chunked body"

    def _feed_pieces(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.is_complete and self.failure is None:
            match self._awaits:
                case "size":
                    at = self._take_size(data, at)
                case "content":
                    at = self._take_content(data, at, pieces)
                case "mark":
                    at = self._take_mark(data, at)
                case "trailer":
                    at = self._take_trailer(data, at)
        if self.is_complete:
            self.excess += data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_size(self, data: bytes, at: int) -> int:
        line = _CHUNK.match(data, at) if b"\n" in data else None
        if line is None:
            return self._hold(data, at, "a chunk does not begin with its size")
        self._left = int(line[1], 16)
        self._awaits = "content" if self._left else "trailer"
        return line.end()

    def _take_content(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._awaits = "mark"
        return at + len(piece)

    def _take_mark(self, data: bytes, at: int) -> int:
        if not data.startswith(b"\r\n", at):
            if data[at:] != b"\r":
                self.failure = "a chunk is longer than it says"
            return self._hold(data, at, "")
        self._awaits = "size"
        return at + 2

    def _take_trailer(self, data: bytes, at: int) -> int:
        line = _TRAILER.match(data, at) if b"\n" in data else None
        if line is None:
            return self._hold(data, at, "a trailer is malformed")
        self._trailers += 1
        if self._trailers > _MOST_TRAILERS:
            self.failure = "there is no end to the trailers"
        self.is_complete = line.end() - line.start() == 2
        return line.end()

    def _hold(self, data: bytes, at: int, complaint: str) -> int:
        rest = data[at:]
        if b"\n" in rest or len(rest) > _LONGEST_LINE:
            self.failure = self.failure or complaint
        self._held = rest
        return len(data)


class SizedBody:
    """`Content-Length`, and answers that have no body at all."""

    def __init__(self, length: int) -> None:
        self.excess = b""
        self.failure: str | None = None
        self.is_complete = length == 0
        self._left = length

    def feed(self, data: bytes) -> bytes:
        """Return what `data` holds of the content."""
        content, self.excess = data[: self._left], self.excess + data[self._left :]
        self._left -= len(content)
        self.is_complete = self._left == 0
        return content

    def end(self) -> None:
        """Take note that the connection has ended."""
        if not self.is_complete:
            self.failure = f"the connection ended {self._left} bytes before the body's end"


class RestBody:
    """Neither of them: all that comes before the connection ends."""

    def __init__(self) -> None:
        self.excess = b""
        self.failure: str | None = None
        self.is_complete = False

    def feed(self, data: bytes) -> bytes:
        """Return `data`: all of it is content."""
        return data

    def end(self) -> None:
        """Take note that the connection has ended, and with it the body."""
        self.is_complete = True
