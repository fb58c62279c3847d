"""What a schedule is put with, and what is answered of one. Shapes: PROTOCOL.md 2. No I/O."""

from datetime import timedelta
from typing import Annotated, Any, NotRequired, Self

from pydantic import ConfigDict, Field, field_validator, model_validator, with_config
from typing_extensions import TypedDict

from tailplane.broker.schedules import CatchUp, Overlap, ScheduleRecord, ScheduleSpec
from tailplane.control_plane import examples
from tailplane.control_plane.forms import Labels
from tailplane.control_plane.models import WORKFLOW_PATTERN, Body, Metadata
from tailplane.control_plane.moments import FURTHEST, Moment, to_ms
from tailplane.control_plane.timetable import check_cron, find_zone
from tailplane.protocol import codec

# As a day rides out a night without workers, it rides out one without control planes.
GRACE_MS = int(timedelta(hours=24).total_seconds() * 1000)
# Below, an ordinary failover of Redis would be a reason to fire nothing.
_LEAST_GRACE_MS = 10_000
_MOST_GRACE_MS = int(timedelta(days=7).total_seconds() * 1000)
_LEAST_EVERY_MS = 1000
_MOST_EVERY_MS = int(FURTHEST.total_seconds() * 1000)


class NewSchedule(Body):
    """What is to be run, and when: exactly one of `cron`, `every_ms` and `run_at` says it."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.NEW_SCHEDULE]})

    workflow: str = Field(pattern=WORKFLOW_PATTERN, description="Name of a workflow that workers have registered.")
    input: Any = Field(None, description="The input of each run; it must fit the workflow's `input_schema`.")
    metadata: Metadata = Field(default_factory=dict)
    cron: str | None = Field(
        None,
        max_length=200,
        description="Minute, hour, day, month, weekday as in crontab(5); or `@hourly` and the like.",
    )
    every_ms: int | None = Field(
        None,
        ge=_LEAST_EVERY_MS,
        le=_MOST_EVERY_MS,
        description="From `start_at` on, or first so long after it was put.",
    )
    run_at: Moment | None = Field(None, description="Once.")
    time_zone: str = Field("UTC", max_length=64, description="Of `cron`, by its IANA name.")
    overlap: Overlap = Field("allow", description="What becomes of a due time while the run before has not ended.")
    catch_up: CatchUp = Field("latest", description="Which of several due times that have passed are fired.")
    misfire_grace_ms: int = Field(
        GRACE_MS, ge=_LEAST_GRACE_MS, le=_MOST_GRACE_MS, description="How late a due time is fired at the most."
    )
    start_at: Moment | None = Field(None, description="No due time is before it.")
    end_at: Moment | None = Field(None, description="No due time is after it.")

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        return None if value is None else check_cron(value)

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        find_zone(value)
        return value

    @model_validator(mode="after")
    def _says_when_once(self) -> Self:
        said = [name for name in ("cron", "every_ms", "run_at") if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(f"give one of cron, every_ms and run_at, not {' and '.join(said) or 'none'}")
        if self.time_zone != "UTC" and self.cron is None:
            raise ValueError("a time_zone goes with cron only")
        if self.start_at is not None and self.end_at is not None and self.start_at > self.end_at:
            raise ValueError("start_at is after end_at")
        return self

    def spec(self) -> ScheduleSpec:
        """Return it as the store has it."""
        return ScheduleSpec(
            workflow=self.workflow,
            input=codec.pack(self.input),
            metadata=self.metadata,
            cron=self.cron,
            every_ms=self.every_ms,
            run_at_ms=to_ms(self.run_at),
            time_zone=self.time_zone,
            overlap=self.overlap,
            catch_up=self.catch_up,
            misfire_grace_ms=self.misfire_grace_ms,
            start_at_ms=to_ms(self.start_at),
            end_at_ms=to_ms(self.end_at),
        )


@with_config(ConfigDict(json_schema_extra={"examples": [examples.SCHEDULE]}))
class Schedule(TypedDict):
    """What is run, and when. Times are seconds since the epoch."""

    name: str
    workflow: str
    input: NotRequired[Annotated[Any, Field(description="Not in lists, nor where `metadata` is left out.")]]
    metadata: NotRequired[Labels]
    cron: NotRequired[str]
    every_ms: NotRequired[int]
    run_at: NotRequired[float]
    time_zone: NotRequired[str]
    overlap: Overlap
    catch_up: CatchUp
    misfire_grace_ms: int
    start_at: NotRequired[float]
    end_at: NotRequired[float]
    paused: bool
    created_at: float
    updated_at: Annotated[float, Field(description="When it was put as it is.")]
    next_at: NotRequired[Annotated[float, Field(description="Its next due time; absent: none, or it is paused.")]]
    last_due_at: NotRequired[Annotated[float, Field(description="The due time that was fired last.")]]
    last_fired_at: NotRequired[Annotated[float, Field(description="When that was done.")]]
    last_task_id: NotRequired[Annotated[str, Field(description="The task that came of it.")]]
    fired: int
    missed: Annotated[int, Field(description="Due times that were too late, or not the latest that had passed.")]
    skipped: Annotated[int, Field(description="Due times at which the run before had not ended.")]


class SchedulePage(TypedDict):
    """A page of schedules, by name."""

    schedules: list[Schedule]
    next_page: Annotated[str | None, Field(description="The `page` that goes on from here; null at the end.")]


def schedule_form(record: ScheduleRecord, *, with_input: bool = True) -> Schedule:
    """Return a schedule's form."""
    spec = record.spec
    form = Schedule(
        name=record.name,
        workflow=spec.workflow,
        metadata=spec.metadata,
        overlap=spec.overlap,
        catch_up=spec.catch_up,
        misfire_grace_ms=spec.misfire_grace_ms,
        paused=record.is_paused,
        created_at=record.created_ms / 1000,
        updated_at=record.since_ms / 1000,
        fired=record.fired,
        missed=record.missed,
        skipped=record.skipped,
    )
    if with_input:
        form["input"] = codec.unpack(spec.input)
    if spec.cron is not None:
        form["cron"], form["time_zone"] = spec.cron, spec.time_zone
    if spec.every_ms is not None:
        form["every_ms"] = spec.every_ms
    if spec.run_at_ms is not None:
        form["run_at"] = spec.run_at_ms / 1000
    if spec.start_at_ms is not None:
        form["start_at"] = spec.start_at_ms / 1000
    if spec.end_at_ms is not None:
        form["end_at"] = spec.end_at_ms / 1000
    if record.next_ms is not None:
        form["next_at"] = record.next_ms / 1000
    if record.last_due_ms is not None:
        form["last_due_at"] = record.last_due_ms / 1000
    if record.last_fired_ms is not None:
        form["last_fired_at"] = record.last_fired_ms / 1000
    if record.last_task is not None:
        form["last_task_id"] = record.last_task
    return form
