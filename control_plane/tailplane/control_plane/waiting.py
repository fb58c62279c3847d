"""Waiting for the end of a task, for as long as the caller said or the process lives."""

import asyncio

from tailplane.broker import TaskRecord, TaskRef
from tailplane.control_plane.services import Services


async def wait_for_outcome(services: Services, task: TaskRef, seconds: float) -> TaskRecord:
    """Return a task's record once it has ended, or as it is after `seconds`, or when the process drains.

    Raises:
        TaskNotFound: there is no such task.
    """
    record = await services.broker.tasks.read(task)
    if record.state.is_terminal or seconds <= 0 or services.drain.is_set():
        return record
    end = asyncio.ensure_future(services.hub.wait_for_end(task, seconds))
    drain = asyncio.ensure_future(services.drain.wait())
    try:
        done, _ = await asyncio.wait({end, drain}, return_when=asyncio.FIRST_COMPLETED)
        if end in done:
            await end
    finally:
        end.cancel()
        drain.cancel()
    return await services.broker.tasks.read(task)
