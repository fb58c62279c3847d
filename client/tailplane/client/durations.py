"""Times that callers may give as a timedelta or in seconds. No I/O."""

from datetime import timedelta

Duration = timedelta | float


def seconds(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
