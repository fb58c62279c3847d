"""A crontab that is read minute by minute: what due times are held against. Shares nothing with what it judges."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = 60_000


def matches(cron: str, wall: datetime) -> bool:
    """Whether a minute of the wall clock is one of a crontab's: stars, steps, lists and ranges of numbers."""
    values = (wall.minute, wall.hour, wall.day, wall.month, wall.isoweekday() % 7)
    spans = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    fits = []
    for field, value, (low, high) in zip(cron.split(), values, spans, strict=True):
        wanted: set[int] = set()
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, _, last = (f"{low}-{high}" if span == "*" else span if "-" in span else f"{span}-{span}").partition(
                "-"
            )
            wanted |= set(range(int(first), int(last) + 1, int(step or 1)))
        # Sunday is 0 and 7.
        fits.append(value in wanted or (high == 7 and value + 7 in wanted))
    minute, hour, day, month, weekday = fits
    stars = [field.startswith("*") for field in cron.split()]
    either = day and weekday if stars[2] or stars[4] else day or weekday
    return minute and hour and month and either


def by_brute_force(cron: str, zone: str, begin: int, end: int) -> Iterator[int]:
    """Yield the due times in (begin, end]. Of fixed times, those that the clocks leave out come when they go on."""
    where = ZoneInfo(zone)
    if any(field.startswith("*") for field in cron.split()[:2]):
        for at in range(begin + MINUTE, end + 1, MINUTE):
            if matches(cron, datetime.fromtimestamp(at / 1000, where)):
                yield at
        return
    found = set()
    wall = datetime.fromtimestamp(begin / 1000, where).replace(tzinfo=None) - timedelta(hours=3)
    until = datetime.fromtimestamp(end / 1000, where).replace(tzinfo=None) + timedelta(hours=3)
    while wall <= until:
        if matches(cron, wall):
            there = wall
            # A time that does not exist comes back from UTC as another one.
            while there.replace(tzinfo=where).astimezone(UTC).astimezone(where).replace(tzinfo=None) != there:
                there += timedelta(minutes=1)
            found.add(int(there.replace(tzinfo=where).timestamp() * 1000))
        wall += timedelta(minutes=1)
    yield from (at for at in sorted(found) if begin < at <= end)
