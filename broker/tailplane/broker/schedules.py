"""The schedules of a deployment: what is to be run when, and up to which due time that was done. On the queue's server.

A schedule has one next due time. Who fires it (any control plane) records a task whose id follows from the schedule's
revision and that due time, and then queues it in the script that moves the schedule on (`fire.lua`): so a due time is
fired once, whoever tries it, however often, and however late. Within a revision the next due time only grows, and a
revision is never used again.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Literal, cast

from tailplane.broker import scripts
from tailplane.broker.keys import Keys, TaskRef, queue_name
from tailplane.broker.records import parse_flat
from tailplane.broker.store import Command
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol import codec
from tailplane.protocol.errors import ScheduleNotFound
from tailplane.protocol.ids import TaskId, task_id_at
from tailplane.protocol.priorities import Priority

Overlap = Literal["allow", "skip", "cancel"]
CatchUp = Literal["latest", "all"]
PutOutcome = Literal["made", "replaced", "kept"]


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What a schedule is asked to do; times in ms since the epoch. Exactly one of cron, every_ms and run_at_ms is set.

    Attributes:
        input: of each run, as msgpack.
        overlap: what becomes of a due time while the run before has not ended: it is fired all the same, skipped, or
            fired after that run was cancelled.
        catch_up: which of several due times that have passed are fired.
        misfire_grace_ms: how late a due time is fired at the most.
    """

    workflow: str
    input: bytes
    metadata: dict[str, str]
    cron: str | None
    every_ms: int | None
    run_at_ms: int | None
    time_zone: str
    overlap: Overlap
    catch_up: CatchUp
    misfire_grace_ms: int
    start_at_ms: int | None
    end_at_ms: int | None

    def pack(self) -> bytes:
        """Return it as the store has it: the same bytes for what says the same."""
        return codec.pack(asdict(self) | {"metadata": dict(sorted(self.metadata.items()))})


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule. Times are ms since the epoch: of `last_fired_ms` by the server's clock, others by who put it.

    Attributes:
        since_ms: when it was put as it is.
        next_ms: its next due time; None: there is none, or it is paused.
        last_due_ms: the due time that was fired last, as `last_task`.
        fired, missed, skipped: how many due times were; missed ones were too late, or not the latest.
    """

    name: str
    tenant: str
    spec: ScheduleSpec
    revision: str
    created_ms: int
    since_ms: int
    is_paused: bool
    next_ms: int | None
    last_due_ms: int | None
    last_fired_ms: int | None
    last_task: TaskId | None
    fired: int
    missed: int
    skipped: int

    def task_at(self, due_ms: int) -> TaskRef:
        """Return the task of a due time."""
        return self.ref_of(task_id_at(due_ms, self.tenant, self.name, self.revision))

    def ref_of(self, task: TaskId) -> TaskRef:
        """Return a task that it has fired, by its id."""
        return TaskRef(task, self.tenant)


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a schedule from its next due time to a later one.

    Attributes:
        from_ms: the due time that must be the next one.
        due_ms: the one that is fired; None: none is.
        following_ms: the next one then; None: none.
        missed, skipped: how many are passed over.
    """

    from_ms: int
    due_ms: int | None
    following_ms: int | None
    missed: int = 0
    skipped: int = 0


class Behind(Exception):
    """A schedule's next due time would not be after `last_due_ms`, which was fired meanwhile."""

    def __init__(self, last_due_ms: int) -> None:
        self.last_due_ms = last_due_ms
        super().__init__(f"{last_due_ms} was fired before")


class MovedOn(Exception):
    """The schedule has moved on before. `is_left_over`: the task never was queued, and nobody will ever queue it."""

    def __init__(self, is_left_over: bool) -> None:
        self.is_left_over = is_left_over
        super().__init__("the schedule has moved on")


@dataclass(frozen=True, slots=True)
class ScheduleStore:
    """The schedules of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def put(self, tenant: str, name: str, spec: ScheduleSpec, next_ms: int, now_ms: int) -> PutOutcome:
        """Put a schedule, or replace the one of that name; one that says the same stays as it is.

        Raises:
            Behind: `next_ms` is not after the due time that was fired last; nothing was done.
        """
        reply = await scripts.SCHEDULE.run(
            self.wire,
            [self.keys.schedule(tenant, name), self.keys.schedules(tenant), self.keys.schedules_due(tenant)],
            [name, spec.pack(), secrets.token_hex(8), next_ms, now_ms],
        )
        match reply:
            case [b"behind", last_due_ms]:
                raise Behind(last_due_ms)
            case [outcome]:
                return cast(PutOutcome, outcome.decode())
            case _:
                raise AssertionError(reply)

    async def read(self, tenant: str, name: str) -> ScheduleRecord:
        """Return a schedule.

        Raises:
            ScheduleNotFound: there is none.
        """
        (found,) = await self.read_many(tenant, [name])
        if found is None:
            raise _not_found(name)
        return found

    async def read_many(self, tenant: str, names: Sequence[str]) -> list[ScheduleRecord | None]:
        """Return these schedules, in their order; None where there is none."""
        if not names:
            return []
        rows = await self.wire.call([("HGETALL", self.keys.schedule(tenant, name)) for name in names])
        raise_refusals(rows)
        return [_parse(tenant, name, parse_flat(row)) for name, row in zip(names, rows, strict=True)]

    async def names(self, tenant: str, after: str | None, limit: int) -> list[str]:
        """Return names of schedules in their order, from behind `after` on."""
        key = self.keys.schedules(tenant)
        rows = await self.wire.run("ZRANGEBYLEX", key, f"({after}" if after else "-", "+", "LIMIT", 0, limit)
        return [row.decode() for row in rows]

    async def upcoming(self, tenants: Sequence[str], limit: int) -> dict[str, list[tuple[str, int]]]:
        """Return each tenant's schedules that are due next, each with its next due time in ms, the first ones first.

        Args:
            limit: how many of each tenant.
        """
        commands: list[Command] = [
            ("ZRANGE", self.keys.schedules_due(tenant), 0, limit - 1, "WITHSCORES") for tenant in tenants
        ]
        replies = await self.wire.call(commands)
        raise_refusals(replies)
        return {
            tenant: [(name.decode(), int(float(due))) for name, due in zip(rows[::2], rows[1::2], strict=True)]
            for tenant, rows in zip(tenants, replies, strict=True)
        }

    async def fire(
        self,
        schedule: ScheduleRecord,
        move: Move,
        due_ms: int,
        task: TaskRef,
        priority: Priority = Priority.NORMAL,
    ) -> int:
        """Queue the recorded task of a due time and move the schedule on, once.

        Returns:
            How many tasks of its tenant, workflow and class wait then.

        Raises:
            MovedOn: it has moved on before.
        """
        keys = self.keys
        queue = queue_name(schedule.tenant, schedule.spec.workflow)
        reply = await scripts.FIRE.run(
            self.wire,
            [
                *keys.of_terms,
                keys.schedule(schedule.tenant, schedule.name),
                keys.schedules_due(schedule.tenant),
                keys.due(queue, priority),
                keys.doorbell(schedule.spec.workflow),
                keys.tasks(schedule.tenant),
            ],
            [
                schedule.name,
                schedule.revision,
                move.from_ms,
                due_ms,
                "" if move.following_ms is None else move.following_ms,
                move.missed,
                task.member,
                task.task_id,
                priority.rank,
                queue,
            ],
        )
        if reply[0] == b"moved":
            raise MovedOn(bool(reply[1]))
        return int(reply[1])

    async def pass_over(self, schedule: ScheduleRecord, move: Move) -> bool:
        """Move a schedule on without firing anything; False if it has moved on before."""
        moved = await scripts.PASS_OVER.run(
            self.wire,
            [self.keys.schedule(schedule.tenant, schedule.name), self.keys.schedules_due(schedule.tenant)],
            [
                schedule.name,
                schedule.revision,
                move.from_ms,
                "" if move.following_ms is None else move.following_ms,
                move.missed,
                move.skipped,
            ],
        )
        return bool(moved)

    async def pause(self, tenant: str, name: str) -> None:
        """Let a schedule fire nothing; done again, nothing changes.

        Raises:
            ScheduleNotFound: there is none.
        """
        keys = [self.keys.schedule(tenant, name), self.keys.schedules_due(tenant)]
        if not await scripts.PAUSE.run(self.wire, keys, [name]):
            raise _not_found(name)

    async def resume(self, schedule: ScheduleRecord, next_ms: int | None) -> bool:
        """Let a paused schedule go on at a due time; False if it was changed since it was read, or is not paused."""
        resumed = await scripts.RESUME.run(
            self.wire,
            [self.keys.schedule(schedule.tenant, schedule.name), self.keys.schedules_due(schedule.tenant)],
            [schedule.name, schedule.revision, secrets.token_hex(8), "" if next_ms is None else next_ms],
        )
        return bool(resumed)

    async def delete(self, tenant: str, name: str) -> bool:
        """Remove a schedule; False if there was none. What it has fired goes on."""
        commands: list[Command] = [
            ("MULTI",),
            ("DEL", self.keys.schedule(tenant, name)),
            ("ZREM", self.keys.schedules(tenant), name),
            ("ZREM", self.keys.schedules_due(tenant), name),
            ("EXEC",),
        ]
        replies = await self.wire.call(commands)
        raise_refusals(replies)
        raise_refusals(replies[-1])
        return bool(replies[-1][0])


def _not_found(name: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule {name!r}", name=name)


def _parse(tenant: str, name: str, row: Mapping[str, bytes]) -> ScheduleRecord | None:
    if "definition" not in row:
        return None
    last_task = row.get("last_task")
    return ScheduleRecord(
        name=name,
        tenant=tenant,
        spec=_parse_spec(row["definition"]),
        revision=row["revision"].decode(),
        created_ms=int(row["created_at"]),
        since_ms=int(row["since"]),
        is_paused=row.get("paused") == b"1",
        next_ms=int(row["next"]) if row.get("next") else None,
        last_due_ms=int(row["last_due"]) if "last_due" in row else None,
        last_fired_ms=int(row["last_fired_at"]) if "last_fired_at" in row else None,
        last_task=TaskId(last_task.decode()) if last_task else None,
        fired=int(row.get("fired", 0)),
        missed=int(row.get("missed", 0)),
        skipped=int(row.get("skipped", 0)),
    )


def _parse_spec(packed: bytes) -> ScheduleSpec:
    # A newer control plane may have put more than this one knows.
    names = {each.name for each in dataclass_fields(ScheduleSpec)}
    given: dict[str, Any] = codec.unpack(packed)
    return ScheduleSpec(**{name: value for name, value in given.items() if name in names})
