"""Due times: those of a cron expression in a time zone, of a fixed interval, or a single one. No I/O.

Cron goes by the wall clock of its zone, as Debian's cron does where the clocks change. Where neither the minute nor the
hour begins with `*`, a time that the clocks leave out is due when they go on, and one that comes twice is due the first
time only. All others follow the time that passes: what is left out is not due, and what comes twice is due twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from tailplane.broker.schedules import ScheduleSpec

# How names of time zones are made: `America/Argentina/Buenos_Aires`, `Etc/GMT+1`.
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}")
# Of crontab(5); `@reboot` has no time.
NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# What each field of cron may have, by the name that cronsim gives it.
_FIELDS = {
    "minute": "minutes are 0 to 59, * or */5",
    "hour": "hours are 0 to 23, * or */5",
    "day-of-month": "days are 1 to 31, or L for the last one, as far as the month has them",
    "month": "months are 1 to 12, or JAN to DEC",
    "day-of-week": "weekdays are 0 (Sunday) to 7, or SUN to SAT",
}


def check_cron(text: str) -> str:
    """Return a cron expression of five fields, or one of `NAMED`.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    fields = NAMED.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        known = ", ".join(sorted(NAMED))
        raise ValueError(f"it has {len(fields)} fields instead of five (minute, hour, day, month, weekday), or {known}")
    try:
        next(CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        raise ValueError(f"bad {field}; {_FIELDS.get(field, 'see crontab(5)')}") from None
    except StopIteration:
        raise ValueError("there is no such day in fifty years") from None
    return text


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: there is none.
    """
    try:
        # Python looks for other names in its packages, too, part by part, each time one level deeper.
        if not _ZONE.fullmatch(name):
            raise ValueError(name)
        return ZoneInfo(name)
    # OSError: a name that is a folder's.
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:80]!r}; one is 'Europe/Berlin'") from None


@dataclass(frozen=True, slots=True)
class Timetable:
    """The due times of one schedule, in ms since the epoch.

    Attributes:
        since_ms: where an interval that has no beginning of its own is counted from.
    """

    spec: ScheduleSpec
    since_ms: int

    def next_after(self, ms: int) -> int | None:
        """Return the first due time after `ms`, or None."""
        return next(self.after(ms), None)

    def after(self, ms: int) -> Iterator[int]:
        """Yield the due times after `ms`, in their order, each once."""
        spec, last = self.spec, ms
        if spec.start_at_ms is not None:
            last = max(last, spec.start_at_ms - 1)
        for due in self._unbounded(last):
            if spec.end_at_ms is not None and due > spec.end_at_ms:
                return
            # Where the clocks change, two times of the wall clock may be one.
            if due > last:
                yield due
                last = due

    def _unbounded(self, ms: int) -> Iterator[int]:
        spec = self.spec
        if spec.cron is not None:
            fields = NAMED.get(spec.cron.strip().lower(), spec.cron)
            try:
                for due in CronSim(fields, datetime.fromtimestamp(ms // 1000, ZoneInfo(spec.time_zone))):
                    yield int(due.timestamp()) * 1000
            except (OverflowError, ValueError):
                # Behind the year 9999, where Python's dates end.
                return
        elif spec.every_ms is not None:
            first = self.since_ms + spec.every_ms if spec.start_at_ms is None else spec.start_at_ms
            due_ms = first + max(0, (ms - first) // spec.every_ms + 1) * spec.every_ms
            while True:
                yield due_ms
                due_ms += spec.every_ms
        elif spec.run_at_ms is not None:
            yield spec.run_at_ms
