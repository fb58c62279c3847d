"""Many readers of HTTP streams in one thread, that parse next to nothing: they measure servers, not clients.

Each is a bare socket in one epoll set. Events are counted by a mark that each of them holds once; for latencies the
time in the last event of each chunk is read. Linux only, standard library only.
"""

import asyncio
import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence

from benchmarks.system import RawStream

_CHUNK = 256 * 1024
_JSON_MARK, _JSON_TIME = b'"pad"', b'"t":'
_MSGPACK_MARK, _MSGPACK_TIME = b"\xa3pad", b"\xa1t\xcb"
# Connections that are opened before the answers of the former are looked at: below the backlog of any server.
_AT_ONCE = 100


class RawReaders:
    """Readers of streams that are all expected to bring the same number of events.

    Attributes:
        deliveries: events that have come, over all readers.
        answered: how many readers have been sent anything.
        unfinished: connections that are open and lack events: after `run`, those that its time limit cut off.
        first_at, last_at: when the first and the last came.
        latencies: seconds from the writing of the last event of a chunk to its arrival, once `since` has passed.
    """

    def __init__(self, streams: Sequence[RawStream], expected: int) -> None:
        self._streams = streams
        self._expected = expected
        self._epoll = select.epoll()
        self._readers: dict[int, _Reader] = {}
        self._buffer = bytearray(_CHUNK)
        self.unfinished = 0
        self.deliveries = 0
        self.answered = 0
        self.first_at = 0.0
        self.last_at = 0.0
        self.since = 0.0
        self.latencies: list[float] = []
        self.is_stopped = False

    async def run(self, seconds: float) -> None:
        """Connect and read in a thread, until all have all events, or for so many seconds."""
        try:
            await asyncio.to_thread(self._run, time.monotonic() + seconds)
        finally:
            self.is_stopped = True

    def close(self) -> None:
        """Close all connections."""
        for reader in self._readers.values():
            reader.socket.close()
        self._readers.clear()
        self._epoll.close()

    def _run(self, deadline: float) -> None:
        try:
            self._connect(deadline)
            self.since = time.monotonic()
            while self.unfinished and not self.is_stopped and time.monotonic() < deadline:
                self._poll(0.1)
        finally:
            self.close()

    def _connect(self, deadline: float) -> None:
        self.since = deadline
        for place, stream in enumerate(self._streams):
            connection = socket.create_connection((stream.host, stream.port), timeout=10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(stream.request)
            connection.setblocking(False)
            self._readers[connection.fileno()] = _Reader(connection, stream.form)
            self._epoll.register(connection.fileno(), select.EPOLLIN)
            self.unfinished += 1
            if place % _AT_ONCE == _AT_ONCE - 1:
                while self.answered <= place and time.monotonic() < deadline and not self.is_stopped:
                    self._poll(0.1)

    def _poll(self, seconds: float) -> None:
        for fileno, _ in self._epoll.poll(seconds):
            reader = self._readers[fileno]
            try:
                size = reader.socket.recv_into(self._buffer)
            except BlockingIOError:
                continue
            except OSError:
                size = 0
            if size:
                self._take(reader, size)
            if not size or reader.count >= self._expected:
                self._epoll.unregister(fileno)
                self.unfinished -= 1

    def _take(self, reader: "_Reader", size: int) -> None:
        now = time.monotonic()
        self.answered += not reader.has_answer
        count = reader.take(self._buffer, size)
        if count:
            if not self.deliveries:
                self.first_at = now
            self.deliveries += count
            self.last_at = now
            if now > self.since and (written := reader.newest(self._buffer, size)):
                self.latencies.append(now - written)


class _Reader:
    """One connection: how many events it has brought."""

    __slots__ = ("_mark", "_tail", "count", "has_answer", "is_json", "socket")

    def __init__(self, connection: socket.socket, form: str) -> None:
        self.socket = connection
        self.is_json = form == "json"
        self.count = 0
        self.has_answer = False
        self._mark = _JSON_MARK if self.is_json else _MSGPACK_MARK
        self._tail = b""

    def take(self, buffer: bytearray, size: int) -> int:
        """Count the events in a chunk, also one whose mark began in the chunk before."""
        overlap = len(self._mark) - 1
        count = buffer.count(self._mark, 0, size)
        if self._tail:
            count += (self._tail + buffer[: min(overlap, size)]).count(self._mark)
        newest = bytes(buffer[max(0, size - overlap) : size])
        self._tail = (self._tail + newest)[-overlap:]
        self.has_answer = True
        self.count += count
        return count

    def newest(self, buffer: bytearray, size: int) -> float:
        """Return the time in the last event of the chunk; 0 where it is cut off."""
        if not self.is_json:
            place = buffer.rfind(_MSGPACK_TIME, 0, size - 8)
            return 0.0 if place < 0 else float(struct.unpack_from(">d", buffer, place + len(_MSGPACK_TIME))[0])
        place = buffer.rfind(_JSON_TIME, 0, size)
        end = buffer.find(b",", place, size)
        if place < 0 or end < 0:
            return 0.0
        with contextlib.suppress(ValueError):
            return float(buffer[place + len(_JSON_TIME) : end])
        return 0.0
