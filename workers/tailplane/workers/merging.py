"""Shows what a child writes in the stream of its parent, while the child runs. On the platform's loop.

A child's stream is read from its beginning in each attempt: what an earlier one has shown of it and was not finished
is taken back, like the tail of an open step.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tailplane.broker import EventLog, TaskRef
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.events import Event, Kind, PlatformType, pack_copy, unpack_payload
from tailplane.protocol.ids import EntryId
from tailplane.protocol.ranges import Range, joined
from tailplane.workers.emitter import Emitter
from tailplane.workers.patience import patiently
from tailplane.workers.stream_bells import StreamBells

# Entries that are read at once; seconds between two looks where no bell rings.
_PAGE = 64
_SWEEP = 1.0


@dataclass(slots=True)
class Merged:
    """What of a child's stream is shown in its parent's.

    Attributes:
        seqs: of each event that stands: its seq there, and its seq here.
    """

    seqs: list[tuple[Cursor, Cursor]] = field(default_factory=list)

    def take_back(self, to: Cursor, also: list[Range]) -> list[Range]:
        """Forget what the child has taken back; return where that is here."""

        def is_back(seq: Cursor) -> bool:
            return seq > to or any(first <= seq <= last for first, last in also)

        back = [here for there, here in self.seqs if is_back(there)]
        self.seqs = [(there, here) for there, here in self.seqs if not is_back(there)]
        return joined([(seq, seq) for seq in back])


@dataclass(frozen=True, slots=True)
class Merging:
    """How a child's events get into the parent's stream.

    Args:
        note: told of each event's seq, with the emitter's lock held.
        rewind: takes events back.
    """

    log: EventLog
    bells: StreamBells
    emitter: Emitter
    label: str
    note: Callable[[Cursor], None]
    rewind: Callable[[list[Range]], None]

    async def run(self, child: TaskRef) -> int:
        """Show all that a child writes, to its end; return how many events its stream had no more when they were read.

        Raises:
            TaskLost: the attempt is over.
        """
        at, merged, last, missing = EntryId(0, 0), Merged(), 0, 0
        async with self.bells.listening(child) as rung:
            while True:
                rung.clear()
                (entries,) = await patiently(partial(self.log.read_after, [(child, at, _PAGE)]))
                for entry in entries:
                    for event in unpack_payload(entry.id, entry.payload):
                        # One that a failover has lost, and that comes again, is none that is missing.
                        missing += max(0, event.seq - last - 1)
                        last = event.seq
                        await self._show(event, merged)
                    at = entry.id
                    if entry.end is not None:
                        return missing
                if not entries and not await self._has_more(child, rung):
                    return missing

    async def _has_more(self, child: TaskRef, rung: asyncio.Event) -> bool:
        """Wait a while for more; return whether there can be any."""
        try:
            async with asyncio.timeout(_SWEEP):
                await rung.wait()
        except TimeoutError:
            with contextlib.suppress(StoreUnavailable):
                return (await self.log.exist([child]))[0] is not False
        return True

    async def _show(self, event: Event, merged: Merged) -> None:
        if event.kind == Kind.WORKFLOW:
            if not self.emitter.room.is_there:
                await self.emitter.room.wait()
            channel = self.label if event.channel is None else f"{self.label}/{event.channel}"

            def make(seq: Cursor) -> tuple[bytes, list[bytes | str]]:
                self.note(seq)
                merged.seqs.append((event.seq, seq))
                return pack_copy(event, channel), []

            self.emitter.commit(make)
        elif event.type == PlatformType.REWIND:
            also = [(first, last) for first, last in event.data.get("also", ())]
            if back := merged.take_back(event.data["to"], also):
                self.rewind(back)
