"""How a claimed task leaves its worker: forgotten, given back to the queue, or parked. Patient where Redis is away."""

from datetime import timedelta
from functools import partial

from tailplane.broker import Claim, TaskRecord, TaskRef
from tailplane.broker.parking import Parked
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.protocol.states import State
from tailplane.workers.family import cancel_all
from tailplane.workers.patience import Patience
from tailplane.workers.platform_side import Platform


class Release:
    """The ways of one claim out of its worker.

    Attributes:
        record: the task's; None: nobody has looked.
    """

    def __init__(self, platform: Platform, claim: Claim, patience: Patience) -> None:
        self.record: TaskRecord | None = None
        self._platform = platform
        self._claim = claim
        self._patience = patience

    async def acknowledge(self, state: State | None = None) -> None:
        """Forget the claim of a task; where that has ended, those first who must know."""

        async def acknowledge() -> None:
            # Before the claim is acknowledged: should we die in between, whoever gets it next does it.
            await self._note_if_failed(state)
            await self._tell_family(state)
            await self._platform.acknowledgements.send(self._claim)

        await self._patience.get(acknowledge)

    async def requeue(self, delay: timedelta) -> None:
        """Give the task back to its queue, due after `delay`."""
        queue, worker = self._platform.broker.queue, self._platform.worker
        await self._patience.get(partial(queue.requeue, worker, self._claim, delay))

    async def park(self, until: float | None, known: int) -> None:
        """Park a task whose record says that it waits, unless there is a message that it does not know of.

        Args:
            until: when it is to run again in any case; None: never.
            known: how many messages the attempt knew of.
        """
        broker, task = self._platform.broker, self._claim.task
        session = self.record.session_id if self.record else None

        async def park() -> None:
            # Whatever it says: it may have done it when its reply was lost. What is not parked is not unparked.
            await broker.parking.park(self._platform.worker, self._claim, until, session)
            # Who delivers looks among the parked, after the message is there: one that came before this task was parked
            # is seen by this look, one that comes after is seen by him. Should we die in between, whoever looks after
            # the parked finds it.
            if await broker.inbox.count(task) > known:
                await broker.parking.unpark(Parked(task, self._claim.workflow))

        await self._patience.get(park)

    async def _note_if_failed(self, state: State | None) -> None:
        if state is State.FAILED:
            await self._platform.broker.catalogue.note_dead(self._claim.task)
            self._platform.counts.note_failed(self._claim.workflow, self._claim.task.tenant)

    async def _tell_family(self, state: State | None) -> None:
        if state is None or not state.is_terminal:
            return
        broker, task = self._platform.broker, self._claim.task
        if self.record is None:
            (self.record,) = await broker.tasks.read_many([task], SUMMARY_FIELDS)
            if self.record is not None:
                # It has ended without an attempt that could do it, or by one that has died before.
                await cancel_all(broker, [TaskRef(child, task.tenant) for child in self.record.children])
        if self.record is not None and self.record.parent is not None:
            await broker.deliveries.tell_parent(self.record.parent, task.tenant, task.task_id)
