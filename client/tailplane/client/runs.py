"""Events between the decoder and their consumer: in runs, so that flat out nothing is made that nobody looks at."""

from collections.abc import Iterable
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


class Part(list[Event]):
    """Events in a row of one task of a session; none at all where they may only follow.

    Attributes:
        number: the task's, in the order in which the session's tasks joined it.
        task_id: its id.
    """

    __slots__ = ("number", "task_id")

    def __init__(self, number: int, task_id: str, events: Iterable[Event]) -> None:
        """Hold these events."""
        super().__init__(events)
        self.number = number
        self.task_id = task_id


Batch = Run | list[Event]
