"""Cancelling: the caller gets a terminal state within about a second, whatever the worker is busy with.

A task that nobody runs is ended here. One that runs is first its worker's to end: what it wrote is then complete and
its code is told. A worker that does not answer in time (dead, or its code blocks) loses the attempt: the terminal event
fences it off, and Redis refuses what it still writes.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from tailplane.broker import Broker, TaskRecord, TaskRef
from tailplane.broker.logs import whose
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.control_plane.ends import Ends
from tailplane.protocol.errors import StoreUnavailable, TaskNotFound, Unavailable
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import SessionId
from tailplane.protocol.states import State, Trigger

# Seconds that a worker has for ending its attempt by itself. With the rest of the call it stays within one second.
WORKER_GRACE = 0.7
# A task can't begin, fail and be queued again often while we look; past this something is wrong.
MAX_LOOKS = 10
# How many of a session's tasks are cancelled at once.
AT_ONCE = 100

log = structlog.get_logger(__name__)


class Canceller:
    """Cancels tasks of one deployment."""

    def __init__(self, broker: Broker, ends: Ends) -> None:
        self._broker = broker
        self._ends = ends

    async def cancel(self, task: TaskRef, reason: str | None) -> TaskRecord:
        """Cancel a task that has not ended; return its record, in whichever terminal state.

        Raises:
            TaskNotFound: there is no such task.
            Unavailable: it kept moving; try again.
        """
        told = False
        for _ in range(MAX_LOOKS):
            record = await self._broker.tasks.read(task, SUMMARY_FIELDS)
            if record.state.is_terminal:
                await self._tell_family(record, reason)
                return record
            # One grace for the whole call: a worker that got it does not get it again in its next attempt.
            if record.state is State.RUNNING and record.worker_id and not told:
                told = True
                await self._broker.queue.tell_cancel(record.worker_id, task, reason)
                await self._give_grace(task)
            elif await self._end(record, reason):
                log.info("task cancelled", **whose(task), attempt=record.attempt, fenced=told)
        raise Unavailable(f"task {task.task_id} keeps moving", task_id=task.task_id)

    async def _tell_family(self, record: TaskRecord, reason: str | None) -> None:
        """Tell the parent of a task that it has ended, and cancel its children. Done again, it changes nothing."""
        if record.parent is not None:
            await self._broker.deliveries.tell_parent(record.parent, record.tenant, record.task_id)
        children = [TaskRef(child, record.tenant) for child in record.children]
        for begin in range(0, len(children), AT_ONCE):
            await self._cancel_all(children[begin : begin + AT_ONCE], reason)

    async def _cancel_all(self, tasks: Sequence[TaskRef], reason: str | None) -> None:
        outcomes = await asyncio.gather(*(self.cancel(task, reason) for task in tasks), return_exceptions=True)
        for outcome in outcomes:
            # One whose retention has passed needs no cancelling.
            if isinstance(outcome, BaseException) and not isinstance(outcome, TaskNotFound):
                raise outcome

    async def cancel_session(self, tenant: str, session: SessionId, reason: str | None) -> None:
        """Cancel every unfinished task of a closed session."""
        before = None
        while ids := await self._broker.catalogue.task_ids(tenant, session, before, AT_ONCE):
            await self._cancel_all([TaskRef(task_id, tenant) for task_id in ids], reason)
            before = ids[-1]

    async def _give_grace(self, task: TaskRef) -> None:
        deadline = asyncio.get_running_loop().time() + WORKER_GRACE
        # Whatever keeps this process from hearing of the end must not keep the task from ending.
        with contextlib.suppress(TimeoutError, StoreUnavailable), self._ends.expecting(task) as wait:
            async with asyncio.timeout_at(deadline):
                await self._ends.outcome(wait, task, deadline)

    async def _end(self, record: TaskRecord, reason: str | None) -> bool:
        ended = await self._broker.tasks.end(
            record.ref, Trigger.CANCEL, record.attempt, PlatformType.CANCELLED, {"reason": reason}
        )
        if ended is None:
            return False
        # Last: were it withdrawn first and we died, it would be neither in the queue nor ended.
        await self._broker.queue.withdraw(record.ref, record.workflow, record.worker_id)
        return True
