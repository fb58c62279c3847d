"""The children of an attempt's task, on the platform's side: started once, told of, shown, and cancelled with it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from tailplane.broker import Begun, Broker, NewTask, Request, TaskRecord, TaskRef, Terms
from tailplane.broker.queue import REQUEST_MEMORY
from tailplane.broker.records import OUTCOME_FIELDS, SUMMARY_FIELDS, Parent
from tailplane.protocol.errors import (
    InvalidRequest,
    SessionClosed,
    SessionNotFound,
    StoreUnavailable,
    TaskNotFound,
    UnknownWorkflow,
)
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import TaskId
from tailplane.protocol.priorities import Priority
from tailplane.protocol.states import State, Trigger
from tailplane.workers.patience import patiently

if TYPE_CHECKING:
    # It has the runner, whose context offers children.
    from tailplane.workers.platform_side import Platform

log = structlog.get_logger("tailplane.workers")

# How many generations of tasks one may have above it.
MOST_GENERATIONS = 20
# Why a child is cancelled whose parent has ended.
PARENT_ENDED = "the task that started it has ended"


@dataclass(frozen=True, slots=True)
class Family:
    """The children of one attempt's task."""

    platform: "Platform"
    begun: Begun

    async def start(self, child: TaskId, workflow: str, value: bytes) -> None:
        """Record and queue a child, unless that was done before; its id is in the parent's record by now.

        Raises:
            UnknownWorkflow: no worker has ever registered it.
            InvalidRequest: the task has too many generations above it.
        """
        await patiently(partial(self._start, child, workflow, value))

    async def _start(self, child: TaskId, workflow: str, value: bytes) -> None:
        broker, record = self.platform.broker, self.begun.record
        task = TaskRef(child, record.tenant)
        depth = record.parent.depth + 1 if record.parent else 1
        if depth > MOST_GENERATIONS:
            raise InvalidRequest(f"a task may have {MOST_GENERATIONS} generations above it, and no more")
        (found,) = await broker.tasks.read_many([task], SUMMARY_FIELDS)
        if found is not None and (found.state is not State.QUEUED or found.attempt):
            return
        known = await broker.queue.workflow(workflow)
        if known is None:
            raise UnknownWorkflow(f"no worker has registered a workflow {workflow!r}", workflow=workflow)
        new = NewTask(
            ref=task,
            workflow=workflow,
            version=known.version,
            input=value,
            session_id=record.session_id,
            metadata=record.metadata,
            trace=record.trace,
            start_within=known.start_within,
            parent=Parent(record.task_id, depth),
            terms=Terms(Priority(known.priority)),
        )
        await broker.tasks.create(new)
        # Once: a second place in the queue would take it from whoever runs it by then. Not by its id alone: that tells
        # what took a dead letter off the list. It begins so for the rights of `deploy/redis/users.acl`.
        request = Request(f"{child}:start", "child", max(REQUEST_MEMORY, broker.tasks.start_within))
        try:
            await broker.queue.enqueue(task, workflow, session=record.session_id, request=request, terms=new.terms)
        except (SessionClosed, SessionNotFound):
            # It takes no tasks from outside any more; what runs in it may go on.
            await broker.queue.enqueue(task, workflow, request=request, terms=new.terms)
        self.platform.writer.written.note_stored(task.tenant, len(value))

    async def outcome(self, child: TaskId) -> TaskRecord | None:
        """Return the record of a child, with what came of it; None where it is gone."""
        task = TaskRef(child, self.begun.record.tenant)

        async def read() -> TaskRecord | None:
            (found,) = await self.platform.broker.tasks.read_many([task], OUTCOME_FIELDS)
            return found

        return await patiently(read)

    async def look_after(self, children: Iterable[TaskId]) -> None:
        """Tell the task of children that have ended, where whoever ended them has died before he could.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        broker, record = self.platform.broker, self.begun.record
        tasks = [TaskRef(child, record.tenant) for child in children]
        for task, found in zip(tasks, await broker.tasks.read_many(tasks, ("state",)), strict=True):
            if found is None or found.state.is_terminal:
                await broker.deliveries.note_ended(record.ref, task.task_id)

    async def cancel(self, children: Iterable[TaskId]) -> None:
        """Cancel children that nobody waits for any more. One that this does not reach ends at its next beginning."""
        await cancel_all(self.platform.broker, [TaskRef(child, self.begun.record.tenant) for child in children])


async def cancel_all(broker: Broker, children: Sequence[TaskRef]) -> None:
    """Cancel tasks whose parent has ended, and what they have started. See `Family.cancel`."""
    for child in children:
        try:
            await _cancel(broker, child)
        except StoreUnavailable as error:
            log.warning("a child could not be cancelled", child=child.task_id, reason=str(error))


async def _cancel(broker: Broker, task: TaskRef) -> None:
    (found,) = await broker.tasks.read_many([task], SUMMARY_FIELDS)
    if found is None or found.state.is_terminal:
        return
    if found.state is State.RUNNING and found.worker_id is not None:
        await broker.queue.tell_cancel(found.worker_id, task, PARENT_ENDED)
        return
    try:
        ended = await broker.tasks.end(
            task, Trigger.CANCEL, found.attempt, PlatformType.CANCELLED, {"reason": PARENT_ENDED}
        )
    except TaskNotFound:
        return
    if ended is not None:
        await broker.queue.withdraw(task, found.workflow, found.worker_id)
        await cancel_all(broker, [TaskRef(child, task.tenant) for child in found.children])


async def is_orphan(platform: "Platform", begun: Begun) -> bool:
    """Whether the task that has started this one has ended, so that nobody wants it any more.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    record = begun.record
    if record.parent is None:
        return False
    (parent,) = await platform.broker.tasks.read_many([TaskRef(record.parent.task_id, record.tenant)], ("state",))
    return parent is None or parent.state.is_terminal
