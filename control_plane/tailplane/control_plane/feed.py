"""A feed: the recent entries of one stream, read once and shared by all its readers in this process.

Readers hold a position, not a queue: a slow one costs no memory. Who is behind the feed's window reads the past from
Redis at its own pace until it meets the window again.
"""

import asyncio
from bisect import bisect_right
from collections import deque

from tailplane.broker import Entry, TaskRef
from tailplane.control_plane.formats import Format
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.ids import EntryId

# Bytes of payload that a feed keeps for readers that are a little behind.
WINDOW_BYTES = 1024 * 1024


class SharedEntry:
    """An entry and its encodings: made when first asked for, once per format, for all readers."""

    __slots__ = ("_encoded", "entry", "first_seq")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.first_seq = entry.first_seq
        self._encoded: dict[str, bytes] = {}

    def encoded(self, form: Format, after: Cursor) -> bytes:
        """Return the events behind the cursor in a format."""
        if after >= self.first_seq:
            # Only the first entry that a reader gets can be one that it has seen in part.
            return form.encode(self.entry, after)
        found = self._encoded.get(form.media_type)
        if found is None:
            found = self._encoded[form.media_type] = form.encode(self.entry, after)
        return found


class Feed:
    """The window on one stream.

    Attributes:
        floor: all that follows it, up to `tail`, is in the window.
        tail: the last entry that was read.
        end: the terminal state, once the terminal event has been read.
        is_gone: whether the stream was found to be removed.
        readers: how many hold this feed.
        ready: done when the feed has begun; fails where it could not.
    """

    def __init__(self, task: TaskRef) -> None:
        self.task = task
        self.floor = self.tail = EntryId(0, 0)
        self.end: str | None = None
        self.is_gone = False
        self.readers = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._window: deque[SharedEntry] = deque()
        self._bytes = 0
        self._waiters: list[asyncio.Future[None]] = []

    def begin(self, newest: Entry) -> None:
        """Begin the window with the stream's newest entry."""
        self.floor = EntryId(newest.id.fence, newest.first_seq - 1)
        self.extend([newest])
        self.ready.set_result(None)

    def extend(self, entries: list[Entry]) -> None:
        """Take what was read behind `tail`, and wake the readers that wait for it."""
        for entry in entries:
            self._window.append(SharedEntry(entry))
            self._bytes += len(entry.payload)
            self.end = entry.end or self.end
        self.tail = entries[-1].id
        while self._bytes > WINDOW_BYTES and len(self._window) > 1:
            dropped = self._window.popleft()
            self._bytes -= len(dropped.entry.payload)
            self.floor = dropped.entry.id
        self.wake()

    @property
    def has_begun(self) -> bool:
        """Whether the window has begun."""
        return self.tail.seq > 0

    @property
    def window_bytes(self) -> int:
        """How many bytes of payload the window keeps."""
        return self._bytes

    @property
    def read_count(self) -> int:
        """How many entries to read at once: about as many as the window holds, by the size of those it has."""
        return entries_within(WINDOW_BYTES, len(self._window), self._bytes)

    def after(self, position: EntryId) -> list[SharedEntry] | None:
        """Return the window's entries behind `position`; None: the window begins later, read them from Redis."""
        if position < self.floor:
            return None
        if not self._window or position >= self.tail:
            return []
        if position <= self.floor:
            return list(self._window)
        skip = bisect_right(self._window, position, key=lambda shared: shared.entry.id)
        return [self._window[i] for i in range(skip, len(self._window))]

    async def wait(self, seconds: float, woken: asyncio.Future[None] | None = None) -> None:
        """Return when the feed has grown, was woken, or after `seconds`; `woken` may be resolved to wake this one."""
        loop = asyncio.get_running_loop()
        if woken is None:
            woken = loop.create_future()
        self._waiters.append(woken)
        timer = loop.call_later(seconds, resolve, woken)
        try:
            await woken
        finally:
            timer.cancel()
            if woken in self._waiters:
                self._waiters.remove(woken)

    def wake(self) -> None:
        """Wake all that wait."""
        waiters, self._waiters = self._waiters, []
        for woken in waiters:
            resolve(woken)


def entries_within(size: int, seen: int, seen_bytes: int) -> int:
    """Return how many entries make about `size` bytes, where `seen` of them had `seen_bytes`: 1-1000, 16 if unknown."""
    return max(1, min(1000, size * seen // seen_bytes)) if seen_bytes else 16


def resolve(woken: asyncio.Future[None]) -> None:
    """Wake the one that waits with this future."""
    if not woken.done():
        woken.set_result(None)
