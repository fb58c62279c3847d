"""The attempts that run in this process, by their tasks, and how what comes for a task reaches its attempt."""

import asyncio

from tailplane.broker import TaskRef
from tailplane.workers.attempt import Attempt, Stop


class Attempts:
    """Those of one worker. On the platform's loop."""

    def __init__(self) -> None:
        self._running: dict[TaskRef, Attempt] = {}
        # Set when one has ended.
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        """Return how many run. Thread-safe."""
        return len(self._running)

    @property
    def tasks(self) -> set[TaskRef]:
        """The tasks that they run. Thread-safe."""
        return set(self._running)

    @property
    def unsent_bytes(self) -> int:
        """Bytes of their events that Redis has not taken yet. Thread-safe."""
        return sum(attempt.unsent_bytes for attempt in list(self._running.values()))

    async def run(self, attempt: Attempt) -> None:
        """Run an attempt to its end, and until its code has really ended."""
        task = attempt.claim.task
        # The queue may have it from somewhere else (a failover, a lease that was lost): only one of ours may write.
        self.lose({task})
        self._running[task] = attempt
        try:
            await attempt.run()
        finally:
            # Another attempt of the same task may stand there, if this one was lost and the queue gave it to us again.
            if self._running.get(task) is attempt:
                del self._running[task]
            self._ended.set()
        await attempt.unwound()

    def cancel(self, task: TaskRef, reason: str | None) -> None:
        """Stop a task that somebody has cancelled, if it runs here."""
        if attempt := self._running.get(task):
            attempt.stop(Stop.CANCELLED, reason)

    def note_message(self, task: TaskRef) -> None:
        """Let a task look at its inbox, if it runs here."""
        if attempt := self._running.get(task):
            attempt.note_message()

    def lose(self, tasks: set[TaskRef]) -> None:
        """Stop tasks that are in other hands, those that run here."""
        for task in tasks:
            if attempt := self._running.get(task):
                attempt.stop(Stop.LOST)

    def drain(self) -> None:
        """Stop all of them: the worker ends."""
        for attempt in list(self._running.values()):
            attempt.stop(Stop.DRAINED)

    async def until_idle(self) -> None:
        """Return when none runs."""
        while self._running:
            self._ended.clear()
            await self._ended.wait()
