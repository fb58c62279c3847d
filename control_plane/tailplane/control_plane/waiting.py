"""Waiting for the end of a task, for as long as the caller said or the process lives."""

import asyncio

from tailplane.broker import TaskRecord, TaskRef
from tailplane.control_plane.services import Services
from tailplane.control_plane.submit import Submission


async def wait_for_outcome(services: Services, task: TaskRef, seconds: float) -> TaskRecord:
    """Return a task's record once it has ended, or as it is after `seconds`, or when the process drains.

    Raises:
        TaskNotFound: there is no such task.
        StoreUnavailable: Redis does not answer.
    """
    if seconds <= 0 or services.drain.is_set():
        return await services.broker.tasks.read(task)
    ends = services.ends
    with ends.expecting(task) as wait:
        return await ends.outcome(wait, task, _after(seconds), services.drain)


async def submit_and_wait(services: Services, tenant: str, wanted: Submission, seconds: float) -> TaskRecord:
    """Queue a task, and return its record as `wait_for_outcome`.

    Raises:
        What `Submitter.submit` raises.
    """
    ends, deadline = services.ends, _after(seconds)
    # Known before it is queued, so that its end can't be missed.
    task = services.broker.tasks.draw(tenant)
    with ends.expecting(task) as wait:
        record = await services.submitter.submit(tenant, wanted._replace(task=task, waiting=ends.channel))
        if record.ref != task:
            return await wait_for_outcome(services, record.ref, deadline - _after(0))
        return await ends.outcome(wait, task, deadline, services.drain, is_announced=True)


def _after(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
