"""A feed: the recent entries of one stream, read once and shared by all its readers in this process.

Readers hold a position, not a queue. Who is behind the feed's window reads the past from Redis, a page at a time and at
its own pace, until it meets the window again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from tailplane.broker import Entry, TaskRef
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.formats import Format
from tailplane.control_plane.past import Past, SharedEntry, gap_before
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.ids import EntryId

# Bytes of payload that a feed keeps for readers that are a little behind.
WINDOW_BYTES = 1024 * 1024


# Chunks of several entries that a feed keeps for readers who stand at the same place.
_CHUNKS_KEPT = 8


class Feed:
    """The window on one stream.

    Attributes:
        floor: all that follows it, up to `tail`, is in the window.
        tail: the last entry that was read.
        end: the terminal state, once the terminal event has been read.
        counts: of this control plane.
        is_gone: whether the stream was found to be removed.
        readers: how many hold this feed.
        opening: done when the feed has begun; fails where it could not.
    """

    def __init__(self, task: TaskRef, counts: Counts) -> None:
        self.task = task
        self.counts = counts
        self.floor = self.tail = EntryId(0, 0)
        self.end: str | None = None
        self.is_gone = False
        self.readers = 0
        self.opening: asyncio.Future[None]
        self._past: Past | None = None
        self._window: deque[SharedEntry] = deque()
        self._bytes = 0
        # A dict, for it keeps the order in which they came.
        self._watchers: dict[Callable[[], None], None] = {}
        self._is_waking = False
        # When an entry came whose handing over is measured.
        self._timed_from: float | None = None
        self._chunks: dict[tuple[EntryId, str], tuple[bytes, int]] = {}

    def begin(self, newest: Entry) -> None:
        """Begin the window with the stream's newest entry."""
        self.floor = EntryId(newest.id.fence, newest.first_seq - 1)
        self._add([newest])

    def extend(self, entries: Sequence[Entry]) -> None:
        """Take what follows `tail`, and wake the readers that wait for it; what is there already is left out."""
        # Came with its bell while it was read.
        new = [entry for entry in entries if entry.id > self.tail]
        for entry in new:
            if self.counts.note_entry(entry):
                self._timed_from = time.monotonic()
        self._add(new)

    def _add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._window.append(SharedEntry(entry))
            self._bytes += len(entry.payload)
            self.end = entry.end or self.end
            self.tail = entry.id
        while self._bytes > WINDOW_BYTES and len(self._window) > 1:
            dropped = self._window.popleft()
            self._bytes -= len(dropped.entry.payload)
            self.floor = dropped.id
        self._chunks.clear()
        self.wake()

    def take(self, entry: Entry) -> bool:
        """Take an entry that came with its bell; return False if it is not the one that follows `tail`.

        Sequence numbers are dense and what rings is in the stream: what bears the next one is the next one.
        """
        if not self.has_begun or entry.first_seq != self.tail.seq + 1:
            return entry.id <= self.tail
        self.extend((entry,))
        return True

    @property
    def past(self) -> Past:
        """What is held of the stream before the window. Most feeds never need it."""
        if self._past is None:
            self._past = Past()
        return self._past

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
        if position >= self.tail:
            return []
        if position < self.floor:
            return None
        found: list[SharedEntry] = []
        # Most readers are near the end.
        for shared in reversed(self._window):
            if shared.id <= position:
                break
            found.append(shared)
        found.reverse()
        return found

    def chunk(self, entries: list[SharedEntry], form: Format, size: int) -> tuple[bytes, int]:
        """Return the first of these entries of the window, up to about `size` bytes in a format, and how many they are.

        Joined once for all readers that stand at the same place.
        """
        key = entries[0].id, form.media_type
        found = self._chunks.get(key)
        if found is None:
            if len(self._chunks) >= _CHUNKS_KEPT:
                self._chunks.clear()
            found = self._chunks[key] = join(entries, form, entries[0].first_seq - 1, size)
        return found

    def watch(self, woken: Callable[[], None]) -> None:
        """Call `woken` whenever the feed grows or is woken, until `unwatch`. It must not raise."""
        self._watchers[woken] = None

    def unwatch(self, woken: Callable[[], None]) -> None:
        """Do not call `woken` any more."""
        self._watchers.pop(woken, None)

    def wake(self) -> None:
        """Wake all that watch, when this turn of the event loop has brought what it brings.

        Once for all entries that came in it: with many readers, waking takes longer than entries take to come.
        """
        if not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._wake_watchers)

    def _wake_watchers(self) -> None:
        self._is_waking = False
        for woken in list(self._watchers):
            woken()
        if self._timed_from is not None:
            self.counts.handover.observe(time.monotonic() - self._timed_from)
            self._timed_from = None


def join(entries: Sequence[SharedEntry], form: Format, after: Cursor, size: int) -> tuple[bytes, int]:
    """Return the first of these entries behind a cursor, about `size` bytes in a format, and how many they are."""
    pieces: list[bytes] = []
    taken = 0
    for shared in entries:
        if size <= 0:
            break
        if shared.first_seq > after + 1:
            pieces.append(form.encode(gap_before(shared, after), 0))
        piece = shared.encoded(form, after)
        pieces.append(piece)
        after = shared.id.seq
        size -= len(piece)
        taken += 1
    return b"".join(pieces), taken


def entries_within(size: int, seen: int, seen_bytes: int) -> int:
    """Return how many entries make about `size` bytes, where `seen` of them had `seen_bytes`: 1-256, 4 if unknown.

    Redis knows no bound in bytes: these keep what comes small also where entries suddenly grow to their largest.
    """
    return max(1, min(256, size * seen // seen_bytes)) if seen_bytes else 4
