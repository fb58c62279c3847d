"""A reader: one client's position in a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tailplane.broker import EventLog
from tailplane.control_plane.feed import Feed, SharedEntry, entries_within, resolve
from tailplane.control_plane.formats import Format
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TaskGone
from tailplane.protocol.ids import EntryId

# Bytes: about what one chunk of a response holds, and what a reader that is behind reads from Redis at once.
CHUNK_BYTES = 256 * 1024
PAGE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a reader begins: the entry behind which to read, and the cursor, which may lie inside the next entry."""

    entry: EntryId
    cursor: Cursor


class Reader:
    """Reads a feed from a position on. Used by one task at a time; `close` it.

    Attributes:
        is_at_end: whether the terminal event has been handed over.
    """

    __slots__ = ("_close", "_cursor", "_feed", "_log", "_page", "_page_bytes", "_position", "_waiting", "is_at_end")

    def __init__(self, log: EventLog, feed: Feed, stand: Stand, close: Callable[[], Awaitable[None]]) -> None:
        self._log = log
        self._feed = feed
        self._position = stand.entry
        self._cursor = stand.cursor
        self._close = close
        self._page: list[SharedEntry] = []
        self._page_bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        self.is_at_end = feed.end is not None and stand.cursor >= feed.tail.seq

    async def chunk(self, form: Format, patience: float) -> bytes:
        """Return the next events in a format, up to about `CHUNK_BYTES`; nothing after `patience` seconds without any.

        Raises:
            TaskGone: the stream was removed before its end was read.
            StoreUnavailable: the reader is behind, and Redis does not answer.
        """
        entries = self._page or self._feed.after(self._position)
        if entries is None:
            entries = await self._read_page()
        elif not entries:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._feed.wait(patience, self._waiting)
            entries = self._feed.after(self._position) or []
            if not entries and self._feed.is_gone:
                raise TaskGone("the stream was removed", task_id=self._feed.task.task_id)
        return self._encode(entries, form)

    @property
    def cursor(self) -> Cursor:
        """The seq of the last event handed over, or before the first one."""
        return self._cursor

    def wake(self) -> None:
        """Let a `chunk` that waits return."""
        if self._waiting is not None:
            resolve(self._waiting)

    async def close(self) -> None:
        """Let go of the feed."""
        await self._close()

    async def _read_page(self) -> list[SharedEntry]:
        count = entries_within(PAGE_BYTES, 1, self._page_bytes)
        (found,) = await self._log.read_after([(self._feed.task, self._position, count)])
        if not found:
            raise TaskGone("the stream was removed", task_id=self._feed.task.task_id)
        self._page_bytes = sum(len(entry.payload) for entry in found) // len(found) + 1
        return [SharedEntry(entry) for entry in found]

    def _encode(self, entries: list[SharedEntry], form: Format) -> bytes:
        pieces: list[bytes] = []
        size = taken = 0
        for shared in entries:
            if size >= CHUNK_BYTES:
                break
            # Frames carry the entry's id; a reader that begins inside an entry gets it whole, or its rest.
            piece = shared.encoded(form, self._cursor)
            pieces.append(piece)
            size += len(piece)
            taken += 1
        if taken:
            last = entries[taken - 1].entry
            self._position = last.id
            self._cursor = max(self._cursor, last.id.seq)
            self.is_at_end = last.end is not None
        # What did not fit is kept if it was read for this reader alone; the feed keeps its own.
        self._page = entries[taken:] if self._position < self._feed.floor else []
        return b"".join(pieces)
