"""A stream's past: pages of entries that readers who are behind the window read from Redis, and share.

Readers that fell behind together, or begin at the same place, ask for the same pages one after the other. A page lives
while one of them holds it, and the last few that were read in this process live on for who comes next.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from weakref import WeakValueDictionary

from tailplane.broker import Entry
from tailplane.control_plane.formats import Format
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.events import pack_gap
from tailplane.protocol.ids import EntryId

# Pages that a process keeps for who comes next.
_PAGES_KEPT = 16


class SharedEntry:
    """An entry and its encodings: made when first asked for, once per format, for all readers."""

    __slots__ = ("_encoded", "entry", "first_seq", "id")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.id = entry.id
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


def gap_before(entry: SharedEntry, after: Cursor) -> Entry:
    """Return what tells a reader that has seen everything up to `after` what it will never see before `entry`."""
    last = entry.first_seq - 1
    return Entry(EntryId(entry.id.fence, last), pack_gap(after + 1, last))


class Page:
    """Entries that follow one another.

    Attributes:
        entries: in order.
        entry_bytes: of payload, on average.
    """

    __slots__ = ("__weakref__", "entries", "entry_bytes")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = [SharedEntry(entry) for entry in entries]
        self.entry_bytes = sum(len(entry.payload) for entry in entries) // len(entries) + 1


class Past:
    """The pages of one stream that are held.

    Attributes:
        pages: by the entry that each one follows.
        reading: held while one is read, so that the next who wants it finds it.
    """

    __slots__ = ("pages", "reading")

    def __init__(self) -> None:
        self.pages: WeakValueDictionary[EntryId, Page] = WeakValueDictionary()
        self.reading = asyncio.Lock()


class Turns:
    """What readers of the past share in one process.

    Attributes:
        encoding: held by one reader at a time while it encodes: that takes a while, and of many who are behind not all
            may do it before anything else gets its turn.
        kept: the pages that were read last.
    """

    __slots__ = ("encoding", "kept")

    def __init__(self) -> None:
        self.encoding = asyncio.Lock()
        self.kept: deque[Page] = deque(maxlen=_PAGES_KEPT)
