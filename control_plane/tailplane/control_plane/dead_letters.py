"""Dead letters: the tasks that failed, for somebody to look at, run again or drop.

Who ends a task as failed puts it on its tenant's list (`Catalogue.note_dead`). It leaves the list once, requeued or
dropped, or when its retention has passed. Which of these it was, Redis remembers as long as the task is kept: the same
call again gives the same answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from tailplane.broker import Broker, TaskRecord, TaskRef
from tailplane.broker.catalogue import requeue_request
from tailplane.broker.logs import whose
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.control_plane.limiter import Allowance
from tailplane.control_plane.listing import Filter, Page, list_dead_letters
from tailplane.control_plane.lookup import find_task
from tailplane.control_plane.submit import Submission, Submitter
from tailplane.protocol import codec
from tailplane.protocol.errors import DeadLetterNotFound, IdempotencyConflict
from tailplane.protocol.ids import TaskId
from tailplane.protocol.states import State

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters of one deployment."""

    broker: Broker
    submitter: Submitter

    async def page(self, tenant: str, workflow: str | None, *, limit: int, before: TaskId | None) -> Page:
        """Return up to `limit` failed tasks older than `before`, newest first; `workflow` None: of any.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        return await list_dead_letters(self.broker, tenant, Filter(workflow=workflow), limit=limit, before=before)

    async def requeue(self, task: TaskRef, trace: Mapping[str, str], allowance: Allowance) -> TaskRecord:
        """Run a failed task again, once, as a new task that belongs to no session; return the new task's record.

        Args:
            trace: the caller's W3C trace context.
            allowance: the caller's.
        Raises:
            TaskNotFound, TaskGone: there is no such task, or no more.
            DeadLetterNotFound: it has not failed, or was dropped.
            What `Submitter.submit` raises: it can't be run now, and stays a dead letter.
        """
        failed = await self._find(task, (*SUMMARY_FIELDS, "input"))
        again = Submission(
            failed.workflow,
            codec.unpack(failed.input),
            failed.metadata,
            trace=trace,
            request=requeue_request(task.task_id, self.broker.tasks.dead_letter_retention),
            requeue_of=task.task_id,
            priority=failed.terms.priority,
            concurrency_key=failed.terms.concurrency_key,
            concurrency_limit=failed.terms.concurrency_limit,
            allowance=allowance,
        )
        try:
            record = await self.submitter.submit(task.tenant, again)
        except IdempotencyConflict:
            raise DeadLetterNotFound(f"task {task.task_id} was dropped before", task_id=task.task_id) from None
        log.info("dead letter requeued", **whose(task), requeued_as=record.task_id)
        return record

    async def drop(self, task: TaskRef) -> None:
        """Take a failed task off the list, and let nobody requeue it. Its record stays as long as others do.

        Raises:
            TaskNotFound, TaskGone: there is no such task, or no more.
            DeadLetterNotFound: it has not failed, or was requeued.
        """
        await self._find(task, SUMMARY_FIELDS)
        if not await self.broker.catalogue.drop_dead(task, self.broker.tasks.dead_letter_retention):
            raise DeadLetterNotFound(f"task {task.task_id} was requeued before", task_id=task.task_id)

    async def _find(self, task: TaskRef, fields: tuple[str, ...]) -> TaskRecord:
        found = await find_task(self.broker, task, fields)
        if found.state is not State.FAILED:
            raise DeadLetterNotFound(
                f"task {task.task_id} is {found.state}: only a failed one is a dead letter", task_id=task.task_id
            )
        return found
