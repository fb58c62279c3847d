"""A reader: one client's position in a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from tailplane.broker import EventLog
from tailplane.control_plane.feed import Feed, entries_within, join
from tailplane.control_plane.formats import Format
from tailplane.control_plane.past import Page, SharedEntry, Turns, gap_before
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TaskGone
from tailplane.protocol.ids import EntryId

log = structlog.get_logger(__name__)

# Bytes: about what one chunk of a response holds, and what a reader that is behind reads from Redis at once.
CHUNK_BYTES = 64 * 1024
PAGE_BYTES = 256 * 1024
# Seconds by which a timer may be early: uvloop counts in milliseconds. Who insisted on the rest would ask again and
# again, thousands of times.
EARLY = 0.002


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

    __slots__ = (
        "_close",
        "_cursor",
        "_entry_bytes",
        "_feed",
        "_log",
        "_page",
        "_page_at",
        "_position",
        "_push",
        "_timer",
        "_turns",
        "_waiting",
        "_wake_at",
        "is_at_end",
    )

    def __init__(
        self,
        log: EventLog,
        feed: Feed,
        stand: Stand,
        close: Callable[[], Awaitable[None]],
        turns: Turns,
    ) -> None:
        self._log = log
        self._turns = turns
        self._feed = feed
        self._position = stand.entry
        self._cursor = stand.cursor
        self._close = close
        # Of the past, and how much of it was handed over; None: the feed's window has what comes next.
        self._page: Page | None = None
        self._page_at = 0
        # What an entry of the last page had on average; 0: not known.
        self._entry_bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        self._push: Callable[[], bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self.is_at_end = feed.end is not None and stand.cursor >= feed.tail.seq

    async def chunk(self, form: Format, patience: float, push: Callable[[], bool] | None = None) -> bytes:
        """Return the next events in a format, up to about `CHUNK_BYTES`; nothing after `patience` seconds without any.

        Args:
            form: how they are shown.
            patience: in seconds; counted from the call, whatever is pushed meanwhile.
            push: called while this waits, when the feed has grown: takes what is `at_hand` by itself, and returns
                whether this may go on waiting. What it raises is for the one who waits to find again.

        Raises:
            TaskGone: the stream was removed before its end was read.
            StoreUnavailable: the reader is behind, and Redis does not answer.
        """
        if self._page is None:
            if chunk := self.at_hand(form):
                return chunk
            if self._feed.after(self._position) is None:
                self._page, self._page_at = await self._read_page(), 0
            else:
                await self._wait(patience, push)
        if self._page is not None:
            async with self._turns.encoding:
                return self._encode(self._page.entries[self._page_at :], form)
        chunk = self.at_hand(form)
        if not chunk and self._feed.is_gone:
            raise TaskGone("the stream was removed", task_id=self._feed.task.task_id)
        return chunk

    def at_hand(self, form: Format) -> bytes:
        """Return what `chunk` would, where the feed's window has it; else nothing."""
        entries = self._feed.after(self._position) if self._page is None else None
        return self._encode(entries, form) if entries else b""

    @property
    def is_caught_up(self) -> bool:
        """Whether all that the feed has was handed over."""
        return self._page is None and self._position >= self._feed.tail

    @property
    def cursor(self) -> Cursor:
        """The seq of the last event handed over, or before the first one."""
        return self._cursor

    @property
    def is_behind(self) -> bool:
        """Whether what comes next is not in the feed's window."""
        return self._page is not None or self._position < self._feed.floor

    @property
    def has_page(self) -> bool:
        """Whether it holds a page of the past."""
        return self._page is not None

    @property
    def is_gone(self) -> bool:
        """Whether the stream was removed."""
        return self._feed.is_gone

    def watch(self, woken: Callable[[], None]) -> None:
        """Call `woken` when the feed has grown: for who reads several, and does not wait in `chunk`."""
        self._feed.watch(woken)

    def unwatch(self, woken: Callable[[], None]) -> None:
        """Do not call `woken` any more."""
        self._feed.unwatch(woken)

    def wake(self) -> None:
        """Let a `chunk` that waits return."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def close(self) -> None:
        """Let go of the feed."""
        if self._timer is not None:
            self._timer.cancel()
        await self._close()

    async def _wait(self, patience: float, push: Callable[[], bool] | None) -> None:
        loop = asyncio.get_running_loop()
        self._wake_at = loop.time() + patience
        if self._timer is None:
            self._timer = loop.call_later(patience, self._look_up, loop)
        self._waiting = loop.create_future()
        self._push = push
        self._feed.watch(self._grown)
        try:
            await self._waiting
        finally:
            self._waiting = self._push = None
            self._feed.unwatch(self._grown)

    def _grown(self) -> None:
        try:
            if self._push is not None and not self._waiting_is_over and self._push():
                return
        except Exception as error:
            # One reader's trouble must not keep the others from being woken; it will meet it again by itself.
            log.debug("a push failed", task_id=self._feed.task.task_id, reason=repr(error))
        self.wake()

    @property
    def _waiting_is_over(self) -> bool:
        return self._waiting is None or self._waiting.done()

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> None:
        # Most waits are short: the timer of the first one runs on, and is set anew only when it was too early.
        self._timer = None
        if self._waiting is None:
            return
        if loop.time() >= self._wake_at - EARLY:
            self.wake()
        else:
            self._timer = loop.call_at(self._wake_at, self._look_up, loop)

    async def _read_page(self) -> Page:
        feed, past = self._feed, self._feed.past
        async with past.reading:
            page = past.pages.get(self._position)
            if page is None:
                count = entries_within(PAGE_BYTES, 1, self._entry_bytes)
                (found,) = await self._log.read_after([(feed.task, self._position, count)])
                if not found:
                    raise TaskGone("the stream was removed", task_id=feed.task.task_id)
                page = past.pages[self._position] = Page(found)
                self._turns.kept.append(page)
        self._entry_bytes = page.entry_bytes
        return page

    def _encode(self, entries: list[SharedEntry], form: Format) -> bytes:
        gap = b""
        if entries[0].first_seq > self._cursor + 1:
            # Removed, because the stream keeps its last events only, or lost by the store.
            self._feed.counts.gaps += 1
            gap = form.encode(gap_before(entries[0], self._cursor), 0)
            self._cursor = entries[0].first_seq - 1
        # Frames carry the entry's id; a reader that begins inside an entry gets it whole, or its rest.
        if len(entries) == 1:
            chunk, taken = entries[0].encoded(form, self._cursor), 1
        elif self._cursor < entries[0].first_seq and entries[0].id > self._feed.floor:
            chunk, taken = self._feed.chunk(entries, form, CHUNK_BYTES)
        else:
            chunk, taken = join(entries, form, self._cursor, CHUNK_BYTES)
        last = entries[taken - 1].entry
        self._position = last.id
        self._cursor = max(self._cursor, last.id.seq)
        self.is_at_end = last.end is not None
        self._page_at += taken
        # Let go as soon as the window has what comes next.
        if self._page is not None and (self._page_at >= len(self._page.entries) or self._position >= self._feed.floor):
            self._page = None
        return gap + chunk if gap else chunk
