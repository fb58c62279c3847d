"""How long to wait before trying again: exponential backoff with full jitter. No I/O.

Full jitter, because readers that lost the same control plane at the same moment must not come back at the same moment.
"""

import random
from collections.abc import Callable
from datetime import timedelta

# 2 ** 30 times any base is past every cap; more would overflow a float in the end.
_MOST_DOUBLINGS = 30


class Backoff:
    """Delays that grow until `reset`."""

    def __init__(self, base: timedelta, cap: timedelta, draw: Callable[[], float] = random.random) -> None:
        """Begin with the shortest delay.

        Args:
            base: bound of the first delay.
            cap: highest bound.
            draw: gives numbers from 0 to 1; tests pass their own.
        """
        self._base_s = base.total_seconds()
        self._cap_s = cap.total_seconds()
        self._draw = draw
        self._tries = 0

    def next_delay(self) -> float:
        """Return the next delay in seconds, from 0 to the present bound, and double the bound."""
        bound = min(self._cap_s, self._base_s * 2.0**self._tries)
        self._tries = min(self._tries + 1, _MOST_DOUBLINGS)
        return self._draw() * bound

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self._tries = 0
