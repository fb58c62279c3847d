"""Housekeeping: ends queued tasks whose time is up, forgets those whose records are gone, dead letters too, and lets
tasks in that wait for a concurrency key which has room.

Every control plane does it; doing it twice changes nothing. A little at a time, so that it never holds up Redis.
"""

from datetime import timedelta

import structlog

from tailplane.broker import Broker, Outage, Standing, TaskRef, WorkflowRecord, workflow_of
from tailplane.broker.logs import whose
from tailplane.broker.tasks import OUT_OF_TIME
from tailplane.control_plane.periodic import repeat
from tailplane.control_plane.rounds import Rounds
from tailplane.protocol.errors import StoreUnavailable, TaskNotFound
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import TaskId
from tailplane.protocol.states import State, Trigger

EVERY = timedelta(seconds=5)
# Tasks in one round: of each queue, and of each tenant's index.
AT_ONCE = 200
# Tenants in one round, and queues of tenants other than the default one: the next round comes to others.
TENANTS_AT_ONCE = 100
# Queues of which it is noted how far the look has come.
PLACES = 10_000

log = structlog.get_logger(__name__)


class Housekeeper:
    """Keeps one deployment in order, for as long as it runs.

    Attributes:
        ended: queued tasks that it ended because their time had passed.
        outage: whether Redis can't be asked.
    """

    def __init__(self, broker: Broker, every: timedelta = EVERY) -> None:
        self._broker = broker
        self._every = every
        self.ended = 0
        self.outage = Outage("housekeeping")
        # How far the looks through each tenant's index and dead letters have come; each begins anew at its end.
        self._gone_rounds, self._dead_rounds = Rounds(TENANTS_AT_ONCE), Rounds(TENANTS_AT_ONCE)
        self._seen: dict[str, TaskId] = {}
        self._seen_dead: dict[str, TaskId] = {}
        # How many overdue tasks of each queue the look has passed over, since they are not late; anew at its end.
        self._passed: dict[str, int] = {}
        # Where the looks through the tenants' queues and the concurrency keys go on.
        self._last_queue = ""
        self._looked_at = 0

    async def run(self) -> None:
        """Keep house until cancelled; Redis may come and go."""
        await repeat(self._keep, self._every, self.outage)

    async def _keep(self) -> None:
        await self.end_overdue()
        await self.admit()
        # On at once where many have gone: at a fixed pace the index would grow faster than it is swept.
        while await self.forget_gone() >= AT_ONCE // 2:
            pass
        while await self.forget_gone_letters() >= AT_ONCE // 2:
            pass

    async def end_overdue(self) -> int:
        """End queued tasks whose time passed while no worker looked: that to start, or that over all attempts.

        Returns:
            How many were ended.
        Raises:
            StoreUnavailable: Redis does not answer.
        """
        ended = 0
        workflows = await self._broker.queue.workflows()
        for name in [*workflows, *await self._queues_of_tenants()]:
            if (workflow := workflows.get(workflow_of(name))) is None:
                continue
            patience = self._patience(workflow)
            looked, late = await self._end_late(name, patience, 0)
            ended += late
            # Those at the head may wait for another attempt, however long. One more look, each round further behind.
            passed = self._passed.pop(name, 0) or looked - late
            if looked == AT_ONCE:
                looked, late = await self._end_late(name, patience, passed)
                ended += late
                if looked == AT_ONCE:
                    self._passed[name] = passed + looked - late
                    if len(self._passed) > PLACES:
                        # Of queues that are gone, too: the place that was noted first, where the look begins anew.
                        del self._passed[next(iter(self._passed))]
        return ended

    async def _queues_of_tenants(self) -> list[str]:
        """Return those queues of other tenants than the default one whose turn it is."""
        found = await self._broker.queue.queues(TENANTS_AT_ONCE, self._last_queue)
        self._last_queue = found[-1] if len(found) == TENANTS_AT_ONCE else ""
        return found

    async def admit(self) -> int:
        """Let tasks in that wait for a concurrency key which has room, and that nobody has let in; return how many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        admitted, self._looked_at = await self._broker.queue.admit(AT_ONCE, self._looked_at)
        return admitted

    async def _end_late(self, name: str, patience: timedelta, passed: int) -> tuple[int, int]:
        """Return how many overdue tasks of a queue, behind so many others, were looked at, and how many ended."""
        broker, ended = self._broker, 0
        overdue = await broker.queue.overdue(name, patience, AT_ONCE, passed)
        if not overdue:
            return 0, 0
        for task, standing in zip(overdue, await broker.tasks.judge(overdue), strict=True):
            if await self._end_if_late(task, standing):
                # Last: were it withdrawn first and we died, it would be neither in the queue nor ended.
                await broker.queue.withdraw(task, workflow_of(name), None)
                ended += 1
        self.ended += ended
        return len(overdue), ended

    def _patience(self, workflow: WorkflowRecord) -> timedelta:
        """Return how long a task of the workflow may have been due without being late in any case."""
        # One that waits for another attempt may be late at any time.
        if workflow.total_timeout_ms is not None:
            return timedelta()
        longest = self._broker.tasks.start_within
        return longest if workflow.start_within is None else min(longest, workflow.start_within)

    async def _end_if_late(self, task: TaskRef, standing: Standing | StoreUnavailable | None) -> bool:
        tasks = self._broker.tasks
        if isinstance(standing, StoreUnavailable):
            # The next round comes to it; the tasks of other shards go on.
            return False
        if standing is None:
            log.error("a queued task has no record: the store lost it", **whose(task))
            return True
        state: State | None = standing.state
        try:
            if standing.state.is_terminal:
                # Who ended it died before the queue could forget it, and no worker has come for it since.
                pass
            elif standing.is_late:
                data = {"reason": "it did not start in time"}
                state = await tasks.end(task, Trigger.EXPIRE, 0, PlatformType.EXPIRED, data)
            elif standing.is_over:
                state = await tasks.fail(task, standing.attempt, OUT_OF_TIME)
            else:
                return False
        except TaskNotFound:
            return True
        except StoreUnavailable:
            return False
        if state is None:
            return False
        if state is State.FAILED:
            await self._broker.catalogue.note_dead(task)
        await self._tell_parent(task)
        log.info("queued task ended", **whose(task), state=state.value)
        return True

    async def _tell_parent(self, task: TaskRef) -> None:
        try:
            parent = (await self._broker.tasks.read(task, ("state", "parent"))).parent
        except (TaskNotFound, StoreUnavailable):
            # Who waits for it looks by himself, too.
            return
        if parent is not None:
            await self._broker.deliveries.tell_parent(parent, task.tenant, task.task_id)

    async def forget_gone(self) -> int:
        """Take tasks whose retention has passed out of their tenants' indexes; return how many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        catalogue, forgotten = self._broker.catalogue, 0
        for tenant in self._gone_rounds.take(await self._broker.tenants.names()):
            ids = await catalogue.oldest_task_ids(tenant, self._seen.pop(tenant, None), AT_ONCE)
            if gone := await self._gone(tenant, ids, self._seen):
                await catalogue.note_gone(tenant, gone)
            forgotten += len(gone)
        return forgotten

    async def forget_gone_letters(self) -> int:
        """Take dead letters off their tenants' lists whose retention has passed; return how many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        catalogue, forgotten = self._broker.catalogue, 0
        for tenant in self._dead_rounds.take(await self._broker.tenants.names()):
            ids = await catalogue.oldest_dead_letter_ids(tenant, self._seen_dead.pop(tenant, None), AT_ONCE)
            if gone := await self._gone(tenant, ids, self._seen_dead):
                await catalogue.forget_dead(tenant, gone)
            forgotten += len(gone)
        return forgotten

    async def _gone(self, tenant: str, ids: list[TaskId], seen: dict[str, TaskId]) -> list[TaskId]:
        """Return which of these tasks are no more, and note in `seen` where the look goes on."""
        if not ids:
            return []
        if len(ids) == AT_ONCE:
            seen[tenant] = ids[-1]
        there = await self._broker.log.exist([TaskRef(task_id, tenant) for task_id in ids])
        return [task_id for task_id, exists in zip(ids, there, strict=True) if exists is False]
