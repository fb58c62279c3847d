"""Divides a task's stream into its attempts, and finds what stands where it may not. No I/O.

Between an attempt's `task.started` and what ends it stand events of that attempt alone; the next one begins with
`task.rewind` and `task.started`. An event of an attempt that is over is a zombie's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tailplane.protocol.events import Event, Kind, PlatformType

# What only an attempt that runs can come to; other ends may also meet a task that is queued between two attempts.
_OF_RUNNING = (PlatformType.RETRYING, PlatformType.HANDED_BACK, PlatformType.WORKER_LOST, PlatformType.SUCCEEDED)

Misplaced = tuple[Event, str]
"""An event, and what was to stand in its place."""


@dataclass(slots=True)
class Attempt:
    """One attempt: what its workflow wrote, and the type and seq of the event that ended it."""

    number: int
    began: float
    written: list[Event] = field(default_factory=list)
    ended_by: str | None = None
    ended_at: int = 0


def divide(events: Sequence[Event]) -> tuple[list[Attempt], list[Misplaced]]:
    """Return the attempts of a stream, and what does not belong where it stands."""
    division = _Division()
    for event in events:
        why = division.take(event)
        if why:
            division.misplaced.append((event, why))
    return division.attempts, division.misplaced


class _Division:
    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.misplaced: list[Misplaced] = []
        self._before: Event | None = None
        self._is_open = False

    def take(self, event: Event) -> str | None:
        """Take the next event; return what was to stand here instead, where it is out of place."""
        before, self._before = self._before, event
        number = len(self.attempts)
        if event.kind != Kind.PLATFORM:
            return self._take_written(event, number)
        match event.type:
            case PlatformType.QUEUED:
                return None if before is None and event.attempt == 0 else "task.queued only at the beginning"
            case PlatformType.REWIND:
                is_due = number > 0 and not self._is_open and event.attempt == number + 1
                return None if is_due else f"no task.rewind before attempt {number} has ended and another one begins"
            case PlatformType.STARTED:
                return self._begin(event, before, number)
            case _:
                return self._end(event, number)

    def _take_written(self, event: Event, number: int) -> str | None:
        if not self._is_open:
            return f"no event of a workflow while no attempt runs; attempt {number} was the last"
        self.attempts[-1].written.append(event)
        return None if event.attempt == number else f"an event of attempt {number}"

    def _begin(self, event: Event, before: Event | None, number: int) -> str | None:
        follows = PlatformType.REWIND if number else PlatformType.QUEUED
        is_right = not self._is_open and event.attempt == number + 1 and before is not None and before.type == follows
        self.attempts.append(Attempt(number + 1, event.time))
        self._is_open = True
        return None if is_right else f"attempt {number + 1}, and {follows.value} before it"

    def _end(self, event: Event, number: int) -> str | None:
        is_right = event.attempt == number and (self._is_open or event.type not in _OF_RUNNING)
        if self._is_open:
            self.attempts[-1].ended_by = event.type
            self.attempts[-1].ended_at = event.seq
        self._is_open = False
        return None if is_right else f"the end of attempt {number}, once"
