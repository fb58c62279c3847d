"""Housekeeping: ends tasks that nobody started in time, and forgets those whose records are gone.

Every control plane does it; doing it twice changes nothing. A little at a time, so that it never holds up Redis.
"""

from datetime import timedelta

import structlog

from tailplane.broker import Broker, TaskRef
from tailplane.control_plane.periodic import repeat
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import DEFAULT_TENANT, TaskId
from tailplane.protocol.states import Trigger

EVERY = timedelta(seconds=5)
# Tasks in one round: of each queue, and of the index.
AT_ONCE = 200

log = structlog.get_logger(__name__)


class Housekeeper:
    """Keeps one deployment in order, for as long as it runs."""

    def __init__(self, broker: Broker, every: timedelta = EVERY) -> None:
        self._broker = broker
        self._every = every
        # How far the look through the index has come; it begins anew at its end.
        self._seen: TaskId | None = None

    async def run(self) -> None:
        """Keep house until cancelled; Redis may come and go."""
        await repeat(self._keep, self._every, "housekeeping")

    async def _keep(self) -> None:
        await self.expire_overdue()
        await self.forget_gone()

    async def expire_overdue(self) -> int:
        """End queued tasks whose start deadline has passed while no worker looked; return how many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        expired = 0
        for workflow in await self._broker.queue.workflows():
            overdue = await self._broker.queue.overdue(workflow, self._broker.tasks.start_within, AT_ONCE)
            for task in overdue:
                expired += await self._expire(task, workflow)
        return expired

    async def _expire(self, task: TaskRef, workflow: str) -> bool:
        data = {"reason": "it did not start in time"}
        try:
            # Attempt 0: one that had begun before has met its deadline, and waits for another attempt.
            state = await self._broker.tasks.end(task, Trigger.EXPIRE, 0, PlatformType.EXPIRED, data)
        except TaskNotFound:
            log.warning("queued task without a record", task_id=task.task_id, workflow=workflow)
        else:
            if state is None:
                return False
            log.info("task expired", task_id=task.task_id, workflow=workflow)
        # Last: were it withdrawn first and we died, it would be neither in the queue nor ended.
        await self._broker.queue.withdraw(task, workflow, None)
        return True

    async def forget_gone(self) -> int:
        """Take tasks whose retention has passed out of the index; return how many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        ids = await self._broker.catalogue.oldest_task_ids(DEFAULT_TENANT, self._seen, AT_ONCE)
        self._seen = ids[-1] if len(ids) == AT_ONCE else None
        if not ids:
            return 0
        there = await self._broker.log.exist([TaskRef(task_id) for task_id in ids])
        gone = [task_id for task_id, exists in zip(ids, there, strict=True) if not exists]
        if gone:
            await self._broker.catalogue.note_gone(DEFAULT_TENANT, gone)
        return len(gone)
