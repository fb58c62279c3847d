"""Reads the inbox of a task that an attempt waits for, on the platform's loop.

A control plane tells the worker when a message has come. What it says may be lost: so the inbox is looked at once in a
while, too.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tailplane.broker import TaskRef
from tailplane.broker.inbox import Inbox
from tailplane.broker.memory import Message
from tailplane.protocol.errors import StoreUnavailable

# Seconds between two looks that nobody asked for, and between two tries while Redis is away.
LOOK_EVERY = 5.0
_PAUSE = 0.5


class InboxWatch:
    """Looks after one inbox, until cancelled.

    Args:
        seen: how many messages are known.
        tell: is given what each look finds: what has come since, in order, and at last nothing.
        before: what else is to be done before a look that nobody asked for.
    """

    def __init__(
        self,
        inbox: Inbox,
        task: TaskRef,
        seen: int,
        tell: Callable[[list[Message]], None],
        before: Callable[[], Awaitable[None]],
    ) -> None:
        self._inbox = inbox
        self._task = task
        self._seen = seen
        self._tell = tell
        self._before = before
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Look at once."""
        self._rung.set()

    async def run(self) -> None:
        """Look, and look again."""
        while True:
            # Before the look: what comes during it is looked for again.
            was_rung = self._rung.is_set()
            self._rung.clear()
            try:
                if not was_rung:
                    await self._before()
                while messages := await self._inbox.read(self._task, self._seen):
                    self._seen = messages[-1].number
                    self._tell(messages)
                self._tell([])
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._rung.wait()
