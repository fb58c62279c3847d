"""Notices when the workflows' loop stands still, and names who blocks it. Runs on the platform's loop."""

import asyncio
import time
from datetime import timedelta

import structlog

log = structlog.get_logger("tailplane.workers")


async def watch(loop: asyncio.AbstractEventLoop, blocked_after: timedelta) -> None:
    """Log a warning each time `loop` has not run for `blocked_after`, again as the time doubles, until cancelled."""
    patience = blocked_after.total_seconds()
    while True:
        asked = time.monotonic()
        answered = asyncio.Event()
        here = asyncio.get_running_loop()
        loop.call_soon_threadsafe(here.call_soon_threadsafe, answered.set)
        wait = patience
        while not await _is_set_within(answered, wait):
            stalled = time.monotonic() - asked
            _report(loop, stalled)
            wait = stalled
        if (stalled := time.monotonic() - asked) > patience:
            log.info("the workflows' loop runs again", blocked_s=round(stalled, 1))
        await asyncio.sleep(patience / 2)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    # Not wait_for: up to Python 3.11 it swallows a cancellation that comes as the event is set.
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _report(loop: asyncio.AbstractEventLoop, stalled: float) -> None:
    # The task that the loop is in the middle of is the one that does not let go.
    task = asyncio.current_task(loop)
    workflow, _, task_id = (task.get_name() if task else "").partition(" ")
    log.warning(
        "a workflow blocks its loop: others of this process wait",
        workflow=workflow or "unknown",
        task_id=task_id or None,
        blocked_s=round(stalled, 1),
        hint="await, or use a sync function (it gets a thread), or asyncio.to_thread",
    )
