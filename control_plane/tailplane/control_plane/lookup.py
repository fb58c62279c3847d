"""Tasks by id, with an answer to whether one that is not there ever was."""

from collections.abc import Sequence

from tailplane.broker import Broker, TaskRecord, TaskRef
from tailplane.broker.records import OUTCOME_FIELDS
from tailplane.protocol.errors import TaskGone, TaskNotFound


async def why_missing(broker: Broker, task: TaskRef, error: TaskNotFound) -> TaskNotFound:
    """Return what to raise for a task that was not found: TaskGone if it once was there, else `error`."""
    if isinstance(error, TaskGone) or not await broker.catalogue.was_here(task):
        return error
    kept, failed = broker.tasks.retention.total_seconds(), broker.tasks.dead_letter_retention.total_seconds()
    return TaskGone(
        f"task {task.task_id} is no longer there: what an ended task leaves is kept for {kept:g} s, "
        f"or {failed:g} s where it failed; one that did not end was lost by the store",
        task_id=task.task_id,
        reason="retention",
    )


async def find_task(broker: Broker, task: TaskRef, fields: Sequence[str] = OUTCOME_FIELDS) -> TaskRecord:
    """Return a task's record.

    Raises:
        TaskGone: its retention has passed.
        TaskNotFound: there never was one.
    """
    try:
        return await broker.tasks.read(task, fields)
    except TaskNotFound as error:
        raise await why_missing(broker, task, error) from None
