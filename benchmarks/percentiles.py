"""Percentiles of latencies. No I/O; standard library only."""

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0-1) of the values lie, interpolated between neighbours.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values: no percentile")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(values: Sequence[float]) -> float:
    """Return the middle of the values.

    Raises:
        ValueError: there are none.
    """
    return percentile(values, 0.5)


def spread_ms(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    """Return p50, p99 and the worst of latencies, in milliseconds; nothing where there are no latencies."""
    if not seconds:
        return {}
    return {
        f"{prefix}p50_ms": percentile(seconds, 0.5) * 1000,
        f"{prefix}p99_ms": percentile(seconds, 0.99) * 1000,
        f"{prefix}max_ms": max(seconds) * 1000,
    }
