"""Counts the events of one stream as they come: the lost, the doubled, and when the first and the last came."""

import time
from typing import Any


class Tally:
    """One stream's events; `note` is called once per event, hundreds of thousands of times a second."""

    __slots__ = ("_last", "count", "doubled", "expected", "first_at", "last_at", "skipped")

    def __init__(self, count: int) -> None:
        """Expect events 0 to `count` - 1."""
        self.count = 0
        self.expected = 0
        self.skipped = 0
        self.doubled = 0
        self.first_at = 0.0
        self.last_at = 0.0
        self._last = count - 1

    def note(self, event: dict[str, Any]) -> None:
        """Take the next event."""
        i = event["i"]
        if i == self.expected:
            if i == 0:
                self.first_at = time.monotonic()
            if i == self._last:
                self.last_at = time.monotonic()
            self.expected = i + 1
            self.count += 1
        else:
            self._note_odd(i)

    def _note_odd(self, i: int) -> None:
        if i < self.expected:
            self.doubled += 1
            return
        self.skipped += i - self.expected
        self.expected = i + 1
        self.count += 1
        self.last_at = time.monotonic()

    @property
    def lost(self) -> int:
        """How many never came."""
        return self.skipped + self._last + 1 - self.expected
