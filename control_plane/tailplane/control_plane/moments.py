"""Points in time as callers give them: seconds since the epoch, RFC 3339 text, or a datetime of msgpack's. No I/O."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

# How far ahead something may be put off: what nobody has looked at for a year had better be asked for again.
FURTHEST = timedelta(days=366)
# The end of the year 9999.
_LAST = 253402300799


def _parse(value: Any) -> float:
    match value:
        case bool():
            raise ValueError("a time is seconds since the epoch, or text as in RFC 3339")
        case int() | float() if 0 <= value <= _LAST:
            return float(value)
        case str():
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise ValueError("the text is no time as in RFC 3339, such as 2026-12-01T09:00:00Z") from None
    if not isinstance(value, datetime):
        raise ValueError("a time is seconds since the epoch, or text as in RFC 3339")
    if value.tzinfo is None:
        raise ValueError("the time says no offset from UTC, such as Z or +01:00")
    seconds = (value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    if not 0 <= seconds <= _LAST:
        raise ValueError("the time is before 1970")
    return seconds


_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0, "maximum": _LAST}, {"type": "string", "format": "date-time"}],
}

Moment = Annotated[float, BeforeValidator(_parse), WithJsonSchema(_SCHEMA)]
"""Seconds since the epoch."""

DelayMs = Annotated[int, Field(ge=0, le=int(FURTHEST.total_seconds() * 1000))]


def to_ms(seconds: float | None) -> int | None:
    """Return seconds in ms."""
    return None if seconds is None else round(seconds * 1000)
