"""Events between the decoder and their consumer: in runs, so that flat out nothing is made that nobody looks at."""

from dataclasses import dataclass
from typing import Any

from tailplane.protocol.cursor import Cursor
from tailplane.protocol.events import Event, append_events


@dataclass(slots=True)
class Run:
    """A workflow's events in a row that are nothing but a time and data, as they were unpacked.

    Most events are so, and most consumers want the data alone: an `Event` for each would take longer than all else
    that happens to it here, but for the unpacking.

    Attributes:
        attempt: whose they are.
        first: seq of the first one.
        items: `[time, data]` of each.
    """

    attempt: int
    first: Cursor
    items: list[list[Any]]

    def __len__(self) -> int:
        return len(self.items)

    def events(self) -> list[Event]:
        """Return them as envelopes."""
        events: list[Event] = []
        append_events(events, self.attempt, self.first, self.items)
        return events


Batch = Run | list[Event]
