"""The worker's lease: one per process, renewed from the platform thread however long the workflows' loop is blocked."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import structlog

from tailplane.broker import Claim, LeaseLapsed, Outage, Queue, TaskRef, WorkerRecord, WorkflowRecord
from tailplane.protocol.errors import StoreUnavailable

log = structlog.get_logger("tailplane.workers")

_STORE_PAUSE = 0.2


class Lease:
    """Keeps a worker registered.

    Args:
        running: what the worker believes to hold.
        on_lost: called with the tasks that it holds no more: they were cancelled, or given to others.
    """

    def __init__(
        self,
        queue: Queue,
        worker: WorkerRecord,
        workflows: Sequence[WorkflowRecord],
        *,
        length: timedelta,
        renew_every: timedelta,
        running: Callable[[], set[TaskRef]],
        on_lost: Callable[[set[TaskRef]], None],
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._workflows = workflows
        self._length = length
        self._renew_every = renew_every
        self._running = running
        self._on_lost = on_lost
        # What the last look found in the running set although nobody runs it.
        self._strays: set[TaskRef] = set()
        self._outage = Outage("the lease")

    async def begin(self) -> None:
        """Register; waits for Redis as long as it takes."""
        while True:
            try:
                await self._queue.register(self._worker, self._workflows, self._length)
                return
            except StoreUnavailable as error:
                self._outage.noticed(error)
                await asyncio.sleep(_STORE_PAUSE)

    async def keep(self) -> None:
        """Renew until cancelled; begin anew when it was lost."""
        while True:
            await asyncio.sleep(self._renew_every.total_seconds())
            try:
                await self._renew()
                self._outage.over()
            except LeaseLapsed:
                lost = self._running()
                log.error("lease lost", tasks=len(lost))
                self._on_lost(lost)
                await self.begin()
            except StoreUnavailable as error:
                self._outage.noticed(error)

    async def _renew(self) -> None:
        before = self._running()
        held = await self._queue.renew(self._worker.worker_id, self._length)
        if held == len(before) and not self._strays:
            return
        # Tasks that ended meanwhile are in neither set; what is in `before` and `now` but not held was taken away.
        members = await self._queue.held(self._worker.worker_id)
        now = self._running()
        missing = (before & now) - members.keys()
        if missing:
            self._on_lost(missing)
        await self._give_back_strays({task: members[task] for task in members.keys() - before - now})

    async def _give_back_strays(self, found: Mapping[TaskRef, str]) -> None:
        # The reply to a claim was lost, or an attempt ended without letting go of its task: while this worker lives
        # nobody else would come for it. Twice found, because a claim's reply may be on its way.
        strays, self._strays = self._strays & found.keys(), set(found)
        for task in strays:
            log.warning("gives back a task that nobody here runs", task_id=task.task_id, workflow=found[task])
            await self._queue.requeue(self._worker.worker_id, Claim(task, found[task], timedelta()), timedelta())

    async def leave(self) -> None:
        """Strike the worker off; what it still holds goes back to the queue at once."""
        try:
            await self._queue.reap(self._worker.worker_id, leaves=True)
        except StoreUnavailable as error:
            # A reaper does it when the lease has run out.
            log.warning("could not sign off", reason=str(error))
