"""Hears of the ends of tasks that somebody waits for here: over one channel of this process, whatever their number.

Who waits leaves the channel's name in the task's record (`await.lua`), and the script that ends the task tells it. So a
wait needs no subscription of its own. A message may be lost: after a reconnect everybody looks again, and once in a
while besides.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator

from tailplane.broker import Broker, TaskRecord, TaskRef
from tailplane.protocol.errors import StoreUnavailable

# Seconds between two looks of one who hears nothing; between two tries to subscribe while Redis is away.
LOOK_EVERY = 5.0
PAUSE = 0.25


class Ends:
    """The ends that this process waits for. `run` must be running."""

    def __init__(self, broker: Broker) -> None:
        self.channel = broker.keys.ends(os.urandom(8).hex())
        self._broker = broker
        # By the keys of their records, which are what the messages say.
        self._waiting: dict[str, dict[Wait, None]] = {}
        self._ends = broker.hear_ends(self._hear)

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ends.run())
            while True:
                with contextlib.suppress(StoreUnavailable):
                    await self._ends.subscribe(self.channel)
                    break
                await asyncio.sleep(PAUSE)

    @property
    def waiting_count(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def wake_all(self) -> None:
        """Let everybody who waits look: the process drains, or messages may have been missed."""
        for waits in self._waiting.values():
            for wait in waits:
                wait.wake()

    @contextlib.contextmanager
    def expecting(self, task: TaskRef) -> Iterator["Wait"]:
        """Take notice of the task's end inside the block: enter it before the channel's name is left in the record."""
        key = self._broker.keys.task(task)
        wait = Wait()
        self._waiting.setdefault(key, {})[wait] = None
        try:
            yield wait
        finally:
            waits = self._waiting[key]
            del waits[wait]
            if not waits:
                del self._waiting[key]

    async def outcome(
        self,
        wait: "Wait",
        task: TaskRef,
        deadline: float,
        drain: asyncio.Event | None = None,
        *,
        is_announced: bool = False,
    ) -> TaskRecord:
        """Return a task's record once it has ended, or as it is at the deadline, or when the process drains.

        Args:
            wait: what `expecting` gave.
            deadline: by the loop's clock.
            drain: set when the process drains; None: wait all the same.
            is_announced: the channel's name was left in the record when the task was created.

        Raises:
            TaskNotFound: there is no such task.
            StoreUnavailable: Redis does not answer.
        """
        tasks, clock = self._broker.tasks, asyncio.get_running_loop().time
        if not is_announced and (ended := await tasks.wait_for(task, self.channel)) is not None:
            return ended
        while not (wait.is_told or (drain and drain.is_set()) or (left := deadline - clock()) <= 0):
            if not await wait.within(min(left, LOOK_EVERY)):
                # While Redis is away there is nothing to say yet.
                with contextlib.suppress(StoreUnavailable):
                    if (ended := await tasks.wait_for(task, self.channel)) is not None:
                        return ended
        return await tasks.read(task)

    def _hear(self, _: str, message: bytes | None) -> None:
        if message is None:
            self.wake_all()
            return
        for wait in self._waiting.get(message.decode("utf-8", "replace"), ()):
            wait.tell()


class Wait:
    """One who waits. `is_told`: the end has come."""

    __slots__ = ("_woken", "is_told")

    def __init__(self) -> None:
        self.is_told = False
        self._woken: asyncio.Future[None] | None = None

    def tell(self) -> None:
        self.is_told = True
        self.wake()

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def within(self, seconds: float) -> bool:
        """Return when told or woken, or after `seconds`: whether the end has come."""
        if self.is_told:
            return True
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self._woken
        finally:
            timer.cancel()
        return self.is_told
