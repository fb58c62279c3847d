"""A histogram of plain numbers: what a hot path can afford. It takes no lock."""

import math
from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts values by upper bounds. Written by one thread; another one may read meanwhile.

    Args:
        bounds: in ascending order; what is greater than the last one is counted as well.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts)

    def cumulated(self) -> tuple[list[tuple[str, int]], float]:
        """Return for each upper bound how many values are not above it, and the sum of all values."""
        total, sum_ = 0, self._sum
        found: list[tuple[str, int]] = []
        for bound, count in zip((*self._bounds, math.inf), list(self._counts), strict=True):
            total += count
            found.append(("+Inf" if bound == math.inf else repr(float(bound)), total))
        return found, sum_
