"""The event envelope, and how events are packed into the entries of a stream. No I/O.

One event is a msgpack array `[time, data]` or `[time, data, meta]`; `meta` is a map that holds only what is there,
under one-letter keys. An entry's payload is a msgpack array of events. What an entry's id already says (attempt, seq)
is not repeated inside: the entry's id carries the seq of its last event, and the others count down from it. Layout and
examples: PROTOCOL.md 4.2; tests/golden pins the bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import time as now
from typing import Any

from pydantic import BaseModel

from tailplane.protocol import codec
from tailplane.protocol.ids import EntryId
from tailplane.protocol.states import State


class Kind(StrEnum):
    """Who speaks: the workflow's author or Tailplane itself."""

    WORKFLOW = "workflow"
    PLATFORM = "platform"


class PlatformType(StrEnum):
    """The `type` of what the platform says."""

    QUEUED = "task.queued"
    STARTED = "task.started"
    RETRYING = "task.retrying"
    WORKER_LOST = "task.worker_lost"
    HANDED_BACK = "task.handed_back"
    REWIND = "task.rewind"
    GAP = "task.gap"
    GONE = "task.gone"
    LOG = "task.log"
    STEP_STARTED = "task.step_started"
    STEP_RETRYING = "task.step_retrying"
    STEP_FINISHED = "task.step_finished"
    CHECKPOINT = "task.checkpoint"
    WAITING = "task.waiting"
    RECEIVED = "task.received"
    PARKED = "task.parked"
    PROGRESS = "task.progress"
    SUCCEEDED = "task.succeeded"
    FAILED = "task.failed"
    CANCELLED = "task.cancelled"
    EXPIRED = "task.expired"


TERMINAL_TYPES: dict[str, State] = {
    PlatformType.SUCCEEDED: State.SUCCEEDED,
    PlatformType.FAILED: State.FAILED,
    PlatformType.CANCELLED: State.CANCELLED,
    PlatformType.EXPIRED: State.EXPIRED,
}


@dataclass(slots=True)
class Event:
    """One event as readers see it.

    Attributes:
        seq: 1, 2, 3, ... without holes through the whole stream, over all attempts.
        attempt: number of the attempt it belongs to; 0 before the first.
        time: when it was written, in seconds since the epoch, by the writer's clock.
        data: what was written.
        type: name of the pydantic model it was written as, a `PlatformType`, or None.
        channel: the author's label, such as "stdout", or None.
        step: the durable step that wrote it, or None.
        kind: who speaks.
    """

    seq: int
    attempt: int
    time: float
    data: Any
    type: str | None = None
    channel: str | None = None
    step: str | None = None
    kind: str = Kind.WORKFLOW

    @property
    def is_terminal(self) -> bool:
        """Whether this is the stream's last event."""
        return self.kind == Kind.PLATFORM and self.type in TERMINAL_TYPES

    def as_dict(self) -> dict[str, Any]:
        """Return the envelope's JSON form: absent fields are left out, and so is the kind of a workflow's event."""
        form: dict[str, Any] = {"seq": self.seq, "attempt": self.attempt, "time": self.time}
        if self.kind != Kind.WORKFLOW:
            form["kind"] = self.kind
        if self.type is not None:
            form["type"] = self.type
        if self.channel is not None:
            form["channel"] = self.channel
        if self.step is not None:
            form["step"] = self.step
        form["data"] = self.data
        return form


_PLAIN = frozenset({dict, str, bytes, list, int, float, bool, type(None)})


def pack_event(data: object, channel: str | None = None, step: str | None = None) -> bytes:
    """Return what a workflow writes, as one packed event that bears the present time.

    Raises:
        Unserialisable: `data` holds something that msgpack can't carry.
    """
    # By exact type first: to tell that something is no model costs as much as to pack it.
    if type(data) not in _PLAIN and isinstance(data, BaseModel):
        # What a model gives has been read back already.
        meta = _meta(type(data).__name__, channel, step)
        return codec.pack((now(), codec.dump_model(data), meta), check=False)
    event = [now(), data]
    if channel is not None or step is not None:
        event.append(_meta(None, channel, step))
    return codec.pack(event, check=False) if isinstance(data, str) else codec.pack_plain(event)


def pack_copy(event: Event, channel: str | None) -> bytes:
    """Return an event of another stream, as one packed event of this one, on a channel."""
    return codec.pack((event.time, event.data, _meta(event.type, channel, event.step)), extensions=True)


def _meta(model: str | None, channel: str | None, step: str | None) -> dict[str, str]:
    meta = {"y": model, "c": channel, "s": step}
    return {key: value for key, value in meta.items() if value is not None}


def pack_platform_event(type_: PlatformType, data: object, *, attempt: int | None = None) -> bytes:
    """Return what the platform says, as one packed event.

    Args:
        type_: what happened.
        data: facts about it.
        attempt: the attempt it belongs to, where that is not the number that the entry's id begins with.
    """
    meta: dict[str, Any] = {"k": Kind.PLATFORM.value, "y": type_.value}
    if attempt is not None:
        meta["a"] = attempt
    return codec.pack((now(), data, meta))


def pack_gap(first: int, last: int) -> bytes:
    """Return the payload that stands for events `first` to `last`, which the stream has no more; its seq is `last`."""
    return join_events([pack_platform_event(PlatformType.GAP, {"from": first, "to": last})])


def pack_gone() -> bytes:
    """Return the payload that tells a reader of a session that one of its tasks is gone, and will show nothing more."""
    return join_events([pack_platform_event(PlatformType.GONE, {"reason": "retention"})])


# The last part of the event that tells of a success.
_SUCCEEDED = codec.pack({"k": Kind.PLATFORM.value, "y": PlatformType.SUCCEEDED.value})


def pack_succeeded(result: bytes) -> bytes:
    """Return what `pack_platform_event` makes of a success, of a result that is packed already."""
    return b"".join((b"\x93", codec.pack(now()), b"\x81\xa6result", result, _SUCCEEDED))


def join_events(packed: Sequence[bytes]) -> bytes:
    """Return the payload of an entry that holds these packed events, in this order."""
    if len(packed) == 1:
        return b"\x91" + packed[0]
    # One copy, where header and rest put together would be two.
    return b"".join((codec.array_header(len(packed)), *packed))


_TIME = struct.Struct(">d")


def first_time(payload: bytes) -> float | None:
    """Return when the first event of an entry's payload was written, without unpacking it; None: it does not say."""
    # The header of the array of events, that of the first event, and a time, always as a double.
    at = 1 if payload[0] < 0xDC else 3 if payload[0] == 0xDC else 5
    if len(payload) < at + 10 or payload[at + 1] != 0xCB:
        return None
    time: float = _TIME.unpack_from(payload, at + 2)[0]
    return time


def append_events(events: list[Event], fence: int, first: int, items: Sequence[Any]) -> None:
    """Append the events that unpacked `items` stand for; the first one's seq is `first`.

    The hot path of every reader: it makes nothing but the events.
    """
    append = events.append
    for seq, item in enumerate(items, first):
        if len(item) == 2:
            append(Event(seq, fence, item[0], item[1]))
        else:
            time, data, meta = item
            get = meta.get
            append(Event(seq, get("a", fence), time, data, get("y"), get("c"), get("s"), get("k", Kind.WORKFLOW)))


def items_after(entry: EntryId, payload: Sequence[Any], after: int) -> tuple[int, Sequence[Any]]:
    """Return what of an unpacked payload follows the cursor `after`, and the seq of the first of it."""
    first = entry.seq - len(payload) + 1
    skip = max(0, after + 1 - first)
    return first + skip, payload[skip:] if skip else payload


def split_payload(entry: EntryId, payload: Sequence[Any], after: int = 0) -> list[Event]:
    """Return the events of an unpacked payload that follow the cursor `after`."""
    events: list[Event] = []
    append_events(events, entry.fence, *items_after(entry, payload, after))
    return events


def unpack_payload(entry: EntryId, payload: bytes, after: int = 0) -> list[Event]:
    """Return the events of a stored payload that follow the cursor `after`."""
    return split_payload(entry, codec.unpack(payload, extensions=True), after)
