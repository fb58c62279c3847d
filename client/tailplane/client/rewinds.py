"""What a stream takes back: when a task gets another attempt, what its workflow wrote before is superseded. No I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tailplane.client.gaps import is_gap
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.events import Event, Kind, PlatformType
from tailplane.protocol.ranges import Range

# How a stream treats superseded events; see `ResultStream`.
OnRewind = Literal["keep", "notice", "drop"]
CHOICES: tuple[str, ...] = get_args(OnRewind)


@dataclass(frozen=True, slots=True)
class Rewind:
    """A notice: what the workflow wrote after the event `to`, and before this, is superseded by what follows.

    Attributes:
        seq: the notice's own place in the stream.
        attempt: the attempt that begins.
        to: the seq of the last event that stands; 0: none does.
        reason: `failed`, `handed_back`, `worker_lost`, `waited` or `step_failed`.
        also: ranges of events up to `to` that are superseded as well, ends included: what was written by a step that
            is done again, beside others that are not.
    """

    seq: int
    attempt: int
    to: int
    reason: str
    also: tuple[Range, ...] = ()

    @classmethod
    def of(cls, event: Event) -> "Rewind | None":
        """Return what a platform's event takes back; None where it takes back nothing."""
        if event.kind != Kind.PLATFORM or event.type != PlatformType.REWIND:
            return None
        said: Any = event.data if isinstance(event.data, dict) else {}
        also = tuple((int(first), int(last)) for first, last in said.get("also", ()))
        return cls(event.seq, event.attempt, int(said.get("to", 0)), str(said.get("reason", "")), also)

    def supersedes(self, first: Cursor, last: Cursor) -> bool:
        """Whether it takes back all that the workflow wrote from `first` to `last`."""
        return first > self.to or any(begin <= first and last <= end for begin, end in self.also)


class Superseded:
    """The ranges of a stream that are known to be superseded."""

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._ranges = [(first, last) for first, last in ranges]

    def overlaps(self, first: Cursor, last: Cursor) -> bool:
        """Whether anything that the workflow wrote from `first` to `last` is superseded."""
        # Nearly always there is nothing, and this is asked for each event.
        return bool(self._ranges) and any(first <= end and begin <= last for begin, end in self._ranges)


class Accumulated:
    """What a workflow has written so far, each thing once: a rewind takes back what it supersedes.

    Attributes:
        events: what stands.
        gap: the first event that stands for some that are gone, unless those are superseded; None: it is all there.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.gap: Event | None = None

    def add(self, event: Event) -> bool:
        """Take the stream's next event; return whether that changed anything."""
        if event.kind != Kind.PLATFORM:
            self.events.append(event)
            return True
        if is_gap(event):
            self.gap = self.gap or event
            return False
        rewind = Rewind.of(event)
        if rewind is None:
            return False
        if self.gap is not None and rewind.supersedes(self.gap.data["from"], self.gap.data["to"]):
            self.gap = None
        before = len(self.events)
        while self.events and self.events[-1].seq > rewind.to:
            self.events.pop()
        if rewind.also:
            self.events = [each for each in self.events if not rewind.supersedes(each.seq, each.seq)]
        return len(self.events) < before
