"""Schedules, as their owners put them and as the control plane tells of them; and when a task is put off to. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from tailplane.client.durations import Duration, seconds
from tailplane.client.models import Answer

Overlap = Literal["allow", "skip", "cancel"]
CatchUp = Literal["latest", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What is to be run, and when: exactly one of `cron`, `every` and `run_at` says it."""

    workflow: str
    """A workflow that some worker has registered."""

    input_data: object = None
    """The input of each run: a pydantic model, or anything that msgpack carries."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    """Labels of each task."""

    cron: str | None = None
    """Minute, hour, day, month, weekday as in crontab(5); or `@hourly`, `@daily` and the like."""

    every: Duration | None = None
    """From `start_at` on, or first so long after it was put; a second at least."""

    run_at: datetime | None = None
    """Once."""

    time_zone: str | None = None
    """Of `cron`, by its IANA name, such as `Europe/Berlin`; None: UTC."""

    overlap: Overlap = "allow"
    """What becomes of a due time while the run before has not ended: it is fired all the same, skipped, or fired after
    that run was cancelled."""

    catch_up: CatchUp = "latest"
    """Of several due times that have passed, the latest is fired, or all of them."""

    misfire_grace: Duration | None = None
    """How late a due time is fired at the most; None: a day."""

    start_at: datetime | None = None
    """No due time is before it."""

    end_at: datetime | None = None
    """No due time is after it."""

    def body(self) -> dict[str, object]:
        """Return it as it travels.

        Raises:
            ValueError: a time has no time zone.
        """
        said: dict[str, object | None] = {
            "workflow": self.workflow,
            "input": self.input_data,
            "metadata": dict(self.metadata) or None,
            "cron": self.cron,
            "every_ms": _ms(self.every),
            "run_at": _moment(self.run_at),
            "time_zone": self.time_zone,
            "overlap": self.overlap,
            "catch_up": self.catch_up,
            "misfire_grace_ms": _ms(self.misfire_grace),
            "start_at": _moment(self.start_at),
            "end_at": _moment(self.end_at),
        }
        return {name: value for name, value in said.items() if value is not None}


class ScheduleInfo(Answer):
    """A schedule as it stands.

    Attributes:
        input: of each run; not in lists.
        next_at: its next due time; None: there is none, or it is paused.
        last_due_at: the due time that was fired last, at `last_fired_at`, as `last_task_id`.
        missed: due times that were too late, or not the latest that had passed.
        skipped: due times at which the run before had not ended.
    """

    name: str
    workflow: str
    input: Any = None
    metadata: dict[str, str] = Field(default_factory=dict)
    cron: str | None = None
    every_ms: int | None = None
    run_at: float | None = None
    time_zone: str | None = None
    overlap: str = "allow"
    catch_up: str = "latest"
    misfire_grace_ms: int = 0
    start_at: float | None = None
    end_at: float | None = None
    paused: bool = False
    created_at: float
    updated_at: float
    next_at: float | None = None
    last_due_at: float | None = None
    last_fired_at: float | None = None
    last_task_id: str | None = None
    fired: int = 0
    missed: int = 0
    skipped: int = 0


class SchedulePage(Answer):
    """One page of schedules, by name."""

    schedules: list[ScheduleInfo]
    next_page: str | None = None


def put_off(delay: Duration | None, run_at: datetime | None) -> dict[str, object]:
    """Return what a submit says of when its task is to start; nothing: at once.

    Raises:
        ValueError: `run_at` has no time zone.
    """
    said = {"delay_ms": _ms(delay), "run_at": _moment(run_at)}
    return {name: value for name, value in said.items() if value is not None}


def _ms(duration: Duration | None) -> int | None:
    return None if duration is None else round(seconds(duration) * 1000)


def _moment(at: datetime | None) -> float | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone: which moment it means depends on where it is read")
    return at.timestamp()
