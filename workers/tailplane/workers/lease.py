"""The worker's lease: one per process, renewed from the platform thread however long the workflows' loop is blocked."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import structlog

from tailplane.broker import Claim, LeaseLapsed, Outage, Queue, TaskRef, WorkerRecord, WorkflowRecord
from tailplane.broker.logs import whose
from tailplane.protocol.errors import StoreUnavailable
from tailplane.workers.patience import patiently

log = structlog.get_logger("tailplane.workers")


class Lease:
    """Keeps a worker registered.

    Args:
        running: what the worker believes to hold.
        on_lost: called with the tasks that it holds no more: they were cancelled, or given to others.

    Attributes:
        renewals: how many there were.
        late: those of them that came more than twice `renew_every` after the one before.
        losses: how many times the lease had run out when it was to be renewed.
        outage: whether Redis can't be asked.
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
        self.outage = Outage("the lease")
        self.renewals = self.late = self.losses = 0
        # How many connections the queue had made when the running set was looked at last, or was new.
        self._connections = 0
        # Until when it lasts at least, by this process' monotonic clock.
        self._lasts_until = 0.0

    @property
    def left(self) -> float:
        """How many seconds it lasts at least; 0 where it may have run out. Thread-safe."""
        return max(0.0, self._lasts_until - time.monotonic())

    @property
    def is_held(self) -> bool:
        """Whether it was begun or renewed so lately that it can't have run out. Thread-safe."""
        return self.left > 0

    async def begin(self) -> None:
        """Register; waits for Redis as long as it takes."""
        await patiently(self._register, self.outage.noticed)

    async def _register(self) -> None:
        asked = time.monotonic()
        await self._queue.register(self._worker, self._workflows, self._length)
        self._note_held(asked)
        self._connections = self._queue.wire.connections

    async def keep(self) -> None:
        """Renew until cancelled; begin anew when it was lost."""
        while True:
            await asyncio.sleep(self._renew_every.total_seconds())
            try:
                await self._renew()
                self.outage.over()
            except LeaseLapsed:
                self._lasts_until = 0.0
                self.losses += 1
                lost = self._running()
                log.error("lease lost", tasks=len(lost))
                self._on_lost(lost)
                await self.begin()
            except StoreUnavailable as error:
                self.outage.noticed(error)

    async def _renew(self) -> None:
        before, asked = self._running(), time.monotonic()
        held = await self._queue.renew(self._worker.worker_id, self._length)
        self.renewals += 1
        if asked - (self._lasts_until - self._length.total_seconds()) > 2 * self._renew_every.total_seconds():
            self.late += 1
        self._note_held(asked)
        connections = self._queue.wire.connections
        # Over another connection it may be another server, which lacks the last claims and has others instead.
        if held == len(before) and not self._strays and connections == self._connections:
            return
        # Tasks that ended meanwhile are in neither set; what is in `before` and `now` but not held was taken away.
        members = await self._queue.held(self._worker.worker_id)
        now = self._running()
        missing = (before & now) - members.keys()
        if missing:
            self._on_lost(missing)
        self._connections = connections
        await self._give_back_strays({task: members[task] for task in members.keys() - before - now})

    def _note_held(self, asked: float) -> None:
        # It began when Redis got the command, which was not before it was sent.
        self._lasts_until = asked + self._length.total_seconds()

    async def _give_back_strays(self, found: Mapping[TaskRef, str]) -> None:
        # The reply to a claim was lost, or an attempt ended without letting go of its task: while this worker lives
        # nobody else would come for it. Twice found, because a claim's reply may be on its way.
        strays, self._strays = self._strays & found.keys(), set(found)
        for task in strays:
            log.warning("gives back a task that nobody here runs", **whose(task), workflow=found[task])
            await self._queue.requeue(self._worker.worker_id, Claim(task, found[task], timedelta()), timedelta())

    async def leave(self) -> None:
        """Strike the worker off; what it still holds goes back to the queue at once."""
        try:
            await self._queue.reap(self._worker.worker_id, leaves=True)
        except StoreUnavailable as error:
            # A reaper does it when the lease has run out.
            log.warning("could not sign off", reason=str(error))
