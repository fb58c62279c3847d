"""Times on the command line: durations and points in time as people write them, and as they are shown. Pure."""

from datetime import datetime, timedelta

import typer


def parse_duration(text: str) -> timedelta:
    """Return a duration: seconds, a number with a unit (`90s`, `5m`, `2h`, `1d`), or ISO 8601.

    Raises:
        typer.BadParameter: it is none.
    """
    from pydantic import TypeAdapter, ValidationError

    from tailplane.broker.settings import Duration

    try:
        found: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is no duration; one is 90s, 5m, 2h or 1d") from None
    return found


def parse_moment(text: str) -> datetime:
    """Return a point in time, written as in ISO 8601; without an offset it is of this machine's zone.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time; one is 2026-12-01T09:00:00Z") from None


def describe_moment(at: float) -> str:
    """Return seconds since the epoch as the time on this machine's clock."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
