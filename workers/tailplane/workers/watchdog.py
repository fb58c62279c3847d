"""Notices when the workflows' loop stands still, and names who blocks it. Runs on the platform's loop."""

import asyncio
import time
from datetime import timedelta

import structlog

log = structlog.get_logger("tailplane.workers")


class Watchdog:
    """Watches one loop.

    Args:
        blocked_after: how long the loop may stand still before it counts as blocked.

    Attributes:
        blocks: how many times it was.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, blocked_after: timedelta) -> None:
        self.blocks = 0
        self._loop = loop
        self._patience = blocked_after.total_seconds()
        # For how many seconds it was blocked before, and since when it has not answered (None: it has). As one, so that
        # who looks from another thread never sees the sum go down.
        self._stand: tuple[float, float | None] = (0.0, None)

    @property
    def blocked_for(self) -> float:
        """For how many seconds the loop has been blocked by now; 0 where it is not. Thread-safe."""
        return self._stalled(self._stand[1])

    @property
    def blocked_seconds(self) -> float:
        """For how many seconds it has been blocked in all."""
        before, asked = self._stand
        return before + self._stalled(asked)

    def _stalled(self, asked: float | None) -> float:
        waited = 0.0 if asked is None else time.monotonic() - asked
        return waited if waited > self._patience else 0.0

    async def watch(self) -> None:
        """Log a warning each time the loop is blocked, again as the time doubles, until cancelled."""
        here = asyncio.get_running_loop()
        while True:
            asked = time.monotonic()
            self._stand = self._stand[0], asked
            answered = asyncio.Event()
            self._loop.call_soon_threadsafe(here.call_soon_threadsafe, answered.set)
            await self._until_set(answered, asked)
            stalled = self._stalled(asked)
            self._stand = self._stand[0] + stalled, None
            if stalled:
                log.info("the workflows' loop runs again", blocked_s=round(stalled, 1))
            await asyncio.sleep(self._patience / 2)

    async def _until_set(self, answered: asyncio.Event, asked: float) -> None:
        wait = self._patience
        while not await _is_set_within(answered, wait):
            if wait == self._patience:
                self.blocks += 1
            wait = time.monotonic() - asked
            self._report(wait)

    def _report(self, stalled: float) -> None:
        # The task that the loop is in the middle of is the one that does not let go.
        task = asyncio.current_task(self._loop)
        # Named so by the runner; an author's own task has a name without spaces.
        match (task.get_name() if task else "").split(" "):
            case [workflow, task_id, attempt]:
                whose: dict[str, object] = {"workflow": workflow, "task_id": task_id, "attempt": int(attempt)}
            case _:
                whose = {"workflow": "unknown"}
        log.warning(
            "a workflow blocks its loop: others of this process wait",
            **whose,
            blocked_s=round(stalled, 1),
            hint="await, or use a sync function (it gets a thread), or asyncio.to_thread",
        )


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    # Not wait_for: up to Python 3.11 it swallows a cancellation that comes as the event is set.
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
