"""From the bytes of one connection to events: the hot path of reading. No I/O.

One decoder serves one connection; the cursor goes on from decoder to decoder. It promises dense seqs: what was seen is
dropped, and at a jump it stops. What came before the trouble is always delivered.
"""

from typing import Any

import msgpack

from tailplane.client.endings import Ended, Ending, Garbage, Hinted, Hole
from tailplane.client.runs import Batch, Run
from tailplane.protocol import codec
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.events import Event, Kind, PlatformType, append_events

_WORKFLOW = Kind.WORKFLOW
_LISTS = {list}
_PAIRS = {2}


class FrameDecoder:
    """Decodes msgpack frames as they come in pieces.

    Attributes:
        cursor: the last event decoded; None before the first, where the reader can't know its number yet.
        ending: why there is no use in feeding more; None while there is.
    """

    def __init__(self, cursor: Cursor | None, max_frame_bytes: int) -> None:
        self.cursor = cursor
        self.ending: Ending | None = None
        self._unpacker = codec.unpacker(max_frame_bytes)
        self._fed = 0

    def feed(self, chunk: bytes) -> list[Batch]:
        """Return the events that `chunk` completes, oldest first; look at `ending` afterwards."""
        batches: list[Batch] = []
        try:
            unpacker = self._unpacker
            unpacker.feed(chunk)
            self._fed += len(chunk)
            # Not by iteration, which asks once more after the last frame: for a single event, half of the unpacking.
            while unpacker.tell() < self._fed:
                frame = unpacker.unpack()
                if type(frame) is list:
                    self._take_entry(frame, batches)
                elif frame is not None:
                    self._take_notice(frame, batches)
                if self.ending is not None:
                    break
        except msgpack.OutOfData:
            # The last frame is not complete: the next chunk goes on with it.
            pass
        except msgpack.BufferFull:
            self.ending = Garbage("one frame is larger than max_frame_bytes")
        # Not only msgpack's errors: in bytes that are no frames, any part of a frame may have any type.
        except Exception as error:
            self.ending = Garbage(f"{type(error).__name__}: {error}")
        return batches

    def _take_entry(self, frame: list[Any], batches: list[Batch]) -> None:
        fence, last, items = frame
        first = last - len(items) + 1
        if not items or first < 1:
            raise ValueError(f"an entry of {len(items)} events can't end with event {last}")
        cursor = first - 1 if self.cursor is None else self.cursor
        if first != cursor + 1:
            if first > cursor:
                if _tells_gap(items, cursor):
                    gap: list[Event] = []
                    append_events(gap, fence, last, items)
                    batches.append(gap)
                    self.cursor = last
                else:
                    self.ending = Hole(cursor, first)
                return
            if last <= cursor:
                return
            items = items[cursor + 1 - first :]
        item = items[0]
        # Most entries have one event: the common question first, without the sets.
        if _are_plain(items) if len(items) > 1 else type(item) is list and len(item) == 2:
            run = batches[-1] if batches else None
            # Entries of one event each, as they come from a slow workflow, and in hundreds to who is late.
            if type(run) is Run and run.attempt == fence:
                run.items += items
            else:
                batches.append(Run(fence, cursor + 1, items))
            self.cursor = last
            return
        events: list[Event] = []
        append_events(events, fence, cursor + 1, items)
        batches.append(events)
        self.cursor = last
        final = events[-1]
        # By identity, as unpacking sets it: for all but the rare event the property would cost more than the event.
        if final.kind is not _WORKFLOW and final.is_terminal:
            self.ending = Ended()

    def _take_notice(self, frame: Any, _: list[Batch]) -> None:
        # Notices of later versions are skipped, as unknown fields are: a reader that needs none of them loses nothing.
        if not isinstance(frame, dict):
            raise TypeError(f"a frame can't be a {type(frame).__name__}")
        if "reconnect_ms" in frame:
            self.ending = Hinted(int(frame["reconnect_ms"]))


def _tells_gap(items: list[Any], cursor: Cursor) -> bool:
    """Whether an entry says that all behind the cursor and before the next entry is gone."""
    if len(items) != 1 or len(items[0]) != 3:
        return False
    _, data, meta = items[0]
    return bool(meta.get("k") == Kind.PLATFORM and meta.get("y") == PlatformType.GAP and data["from"] <= cursor + 1)


def _are_plain(items: list[Any]) -> bool:
    # By map and set, which are done in C: this looks at each event.
    return set(map(type, items)) == _LISTS and set(map(len, items)) == _PAIRS
