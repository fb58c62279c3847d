"""The scheduler: fires what schedules of any tenant ask for when it is due. Every control plane runs one.

Several may fire the same due time at once, and any may die in the middle, or be stopped there for a day:
1. The task of a due time has one id, whoever records it, so that a record which is there already is taken as it is.
2. The script that queues it moves the schedule on, and does neither where somebody has moved it on before.
3. Died between the two: the schedule has not moved on, and the next look does both.
4. A task that was run and removed again must not be recorded by one who was stopped: the record is refused when half of
   the time has passed for which finished tasks are kept, counted from before the schedule was read.
"""

import asyncio
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

import structlog

from tailplane.broker import Broker, NewTask, Outage, TaskRef, Terms, queue_name
from tailplane.broker.logs import whose
from tailplane.broker.records import SUMMARY_FIELDS, Fired
from tailplane.broker.schedules import Move, MovedOn, ScheduleRecord
from tailplane.broker.tasks import TooLateToRecord
from tailplane.control_plane.cancel import Canceller
from tailplane.control_plane.clock import Clock, ServerClock
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.firing import next_move
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.periodic import repeat
from tailplane.control_plane.rounds import Rounds
from tailplane.control_plane.tracing import enqueuing
from tailplane.control_plane.workflow_registry import WorkflowRegistry
from tailplane.protocol.errors import TaskNotFound, UnknownWorkflow
from tailplane.protocol.priorities import Priority

# The longest time between two looks: a schedule that was put or resumed meanwhile fires so late at the most.
EVERY = timedelta(milliseconds=500)
# Schedules that are looked at, of each tenant a few at least, and how many of those that are due are fired at once.
LOOK = 1000
LEAST_OF_EACH = 5
AT_ONCE = 100
# Tenants in one look; the next one comes to others.
TENANTS_AT_ONCE = 1000
# What lies further back is found out on a thread: a day of minutes takes a twentieth of a second.
_FAR_BACK_MS = 3600 * 1000

log = structlog.get_logger(__name__)


class Scheduler:
    """Fires the schedules of one deployment, for as long as it runs.

    Args:
        tenants: tell how many tasks of a tenant may wait for a workflow; what is due waits, too, while so many do.

    Attributes:
        outage: whether Redis can't be asked.
    """

    def __init__(
        self,
        broker: Broker,
        registry: WorkflowRegistry,
        canceller: Canceller,
        clock: Clock,
        counts: Counts,
        tenants: KnownTenants,
    ) -> None:
        self._broker = broker
        self._registry = registry
        self._canceller = canceller
        self._clock = clock
        self._server_clock = ServerClock(broker.queue.wire)
        self._counts = counts
        self._tenants = tenants
        self._pause = EVERY
        self._rounds = Rounds(TENANTS_AT_ONCE)
        # Schedules that wait for room, each told of once.
        self._waiting: set[tuple[str, str]] = set()
        self.outage = Outage("firing schedules")

    async def run(self) -> None:
        """Fire what is due until cancelled; Redis may come and go."""
        await repeat(self.fire_due, lambda: self._pause, self.outage)

    async def fire_due(self) -> int:
        """Fire what is due; return how many schedules were moved on.

        Raises:
            StoreUnavailable: Redis does not answer, or a shard that has a task of these; the others were fired.
        """
        self._pause = EVERY
        upcoming = await self._upcoming()
        now_ms = await self._clock.now_ms()
        due = [whose for whose, next_ms in upcoming if next_ms <= now_ms]
        if len(due) < len(upcoming):
            soonest_ms = min(next_ms for _, next_ms in upcoming if next_ms > now_ms)
            self._pause = min(EVERY, timedelta(milliseconds=soonest_ms - now_ms))
        outcomes = await asyncio.gather(*(self._attend(*whose) for whose in _pick(due)), return_exceptions=True)
        moved = sum(outcome is True for outcome in outcomes)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if moved:
            self._pause = timedelta()
        return moved

    async def _upcoming(self) -> list[tuple[tuple[str, str], int]]:
        """Return tenant and name of the schedules that are due next, each with its next due time, in ms."""
        tenants = self._rounds.take(await self._broker.tenants.names())
        found = await self._broker.schedules.upcoming(tenants, max(LEAST_OF_EACH, LOOK // len(tenants)))
        upcoming = [((tenant, name), ms) for tenant, schedules in found.items() for name, ms in schedules]
        # Those that were removed or paused meanwhile wait no more.
        missing = self._waiting.difference(whose for whose, _ in upcoming)
        self._waiting -= {whose for whose in missing if whose[0] in found}
        return upcoming

    async def _attend(self, tenant: str, name: str) -> bool:
        """Take a schedule one step on, if it is due; False if it was not."""
        # Before the schedule is read: what is refused by it may be refused too early, never too late.
        read_ms = await self._server_clock.now_ms()
        (schedule,) = await self._broker.schedules.read_many(tenant, [name])
        now_ms = await self._clock.now_ms()
        if schedule is None or schedule.next_ms is None or schedule.next_ms > now_ms:
            return False
        if now_ms - schedule.next_ms > _FAR_BACK_MS:
            move = await asyncio.to_thread(next_move, schedule, schedule.next_ms, now_ms)
        else:
            move = next_move(schedule, schedule.next_ms, now_ms)
        if move.due_ms is None:
            return await self._pass_over(schedule, move)
        if await self._is_full(schedule):
            return False
        before = await self._unfinished_before(schedule)
        if before is not None and schedule.spec.overlap == "skip":
            return await self._pass_over(schedule, Move(move.from_ms, None, move.following_ms, move.missed, skipped=1))
        if before is not None:
            # Before the firing: the other order would leave both running if we died in between. Whoever was stopped
            # here cancels the run that was the one before when it looked, which everybody does.
            with contextlib.suppress(TaskNotFound):
                await self._canceller.cancel(before, f"schedule {name} fired again")
        return await self._fire(schedule, move, move.due_ms, read_ms)

    async def _fire(self, schedule: ScheduleRecord, move: Move, due_ms: int, read_ms: int) -> bool:
        broker, spec, ref = self._broker, schedule.spec, schedule.task_at(due_ms)
        try:
            workflow = await self._registry.find(spec.workflow)
            version, start_within, priority = workflow.version, workflow.start_within, Priority(workflow.priority)
        except UnknownWorkflow:
            # It was there when the schedule was put: its workers may come back.
            version, start_within, priority = "", None, Priority.NORMAL
        record_by_ms = read_ms + int(broker.tasks.retention.total_seconds() * 500)
        with enqueuing(ref, spec.workflow, None, {}) as trace:
            task = NewTask(
                ref=ref,
                workflow=spec.workflow,
                version=version,
                # Not checked again: where it does not fit any more, the task fails, and can be requeued later.
                input=spec.input,
                metadata=spec.metadata,
                trace=trace,
                start_within=start_within,
                fired=Fired(schedule.name, due_ms, record_by_ms),
                terms=Terms(priority),
            )
            try:
                await broker.tasks.create(task)
                await broker.schedules.fire(schedule, move, due_ms, ref, priority)
            except TooLateToRecord:
                return False
            except MovedOn as error:
                if error.is_left_over:
                    await broker.tasks.discard(ref)
                return False
        self._counts.fired += 1
        self._counts.missed += move.missed
        self._counts.note_submitted(spec.workflow, ref.tenant)
        log.debug("schedule fired", schedule=schedule.name, **whose(ref), missed=move.missed)
        return True

    async def _pass_over(self, schedule: ScheduleRecord, move: Move) -> bool:
        if not await self._broker.schedules.pass_over(schedule, move):
            return False
        self._counts.missed += move.missed
        self._counts.skipped += move.skipped
        if move.missed:
            log.warning("schedule missed a due time", schedule=schedule.name, missed=move.missed)
        return True

    async def _is_full(self, schedule: ScheduleRecord) -> bool:
        """Whether the queue has no room. Asked before anything is recorded: nothing can be taken back then."""
        whose = schedule.tenant, schedule.name
        bound = await self._tenants.max_queued(schedule.tenant)
        if await self._broker.queue.depth(queue_name(schedule.tenant, schedule.spec.workflow)) < bound:
            self._waiting.discard(whose)
            return False
        if whose not in self._waiting:
            self._waiting.add(whose)
            log.warning("schedule waits for room in the queue", schedule=schedule.name, workflow=schedule.spec.workflow)
        return True

    async def _unfinished_before(self, schedule: ScheduleRecord) -> TaskRef | None:
        """Return the run before if it has not ended, and must not go on beside the next one."""
        if schedule.spec.overlap == "allow" or schedule.last_task is None:
            return None
        before = schedule.ref_of(schedule.last_task)
        (record,) = await self._broker.tasks.read_many([before], SUMMARY_FIELDS)
        return None if record is None or record.state.is_terminal else before


def _pick(due: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return which schedules are fired at once: of each tenant one, then of each another one, and so on.

    In any order: control planes get less into each other's way, and what can't be fired now holds nothing up.
    """
    of_tenants: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for each in random.sample(due, len(due)):
        of_tenants[each[0]].append(each)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*of_tenants.values()))
    return [each for each in in_turn if each is not None][:AT_ONCE]
