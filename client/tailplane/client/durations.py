"""Times that callers may give as a timedelta or in seconds. No I/O."""

from datetime import timedelta

Duration = timedelta | float


def seconds(duration: Duration) -> float:
    """Return a duration in seconds.

    Raises:
        TypeError: it is neither a timedelta nor a number.
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if not isinstance(duration, int | float):
        raise TypeError(f"a time is a timedelta, or a number of seconds, not {duration!r}")
    return float(duration)
