"""Priority classes: which of the tasks that wait are claimed first. No I/O."""

from enum import StrEnum


class Priority(StrEnum):
    """A task's class. Of those that are due, a higher one is claimed first, and in a class the longest due first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Its place, 0 for the first to be claimed: how the queue names it."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}
