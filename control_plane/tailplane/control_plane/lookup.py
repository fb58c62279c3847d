"""Tasks by id, with an answer to whether one that is not there ever was."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tailplane.broker import Broker, TaskRecord, TaskRef
from tailplane.broker.records import OUTCOME_FIELDS
from tailplane.protocol.errors import TaskGone, TaskNotFound


@asynccontextmanager
async def telling_gone(broker: Broker, task: TaskRef) -> AsyncIterator[None]:
    """Turn a TaskNotFound from inside into TaskGone if the task once was there."""
    try:
        yield
    except TaskGone:
        raise
    except TaskNotFound:
        if not await broker.catalogue.was_here(task):
            raise
        kept = broker.tasks.retention.total_seconds()
        raise TaskGone(
            f"task {task.task_id} ended and was removed: what a task leaves is kept for {kept:g} s",
            task_id=task.task_id,
            reason="retention",
        ) from None


async def find_task(broker: Broker, task: TaskRef, fields: Sequence[str] = OUTCOME_FIELDS) -> TaskRecord:
    """Return a task's record.

    Raises:
        TaskGone: its retention has passed.
        TaskNotFound: there never was one.
    """
    async with telling_gone(broker, task):
        return await broker.tasks.read(task, fields)
