"""Hears that streams of other tasks have grown, for attempts that show what their children write."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tailplane.broker import Broker, TaskRef
from tailplane.protocol.errors import StoreUnavailable


class StreamBells:
    """The bells that attempts of this worker listen to, over one connection, which is made when the first one does."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._hearing = broker.hear_bells(self._hear)
        self._running: asyncio.Task[None] | None = None
        # Several attempts of one task may show the same child here: one that was lost unwinds while the next one runs.
        self._rung: dict[str, set[asyncio.Event]] = {}

    @contextlib.asynccontextmanager
    async def listening(self, task: TaskRef) -> AsyncIterator[asyncio.Event]:
        """Set an event whenever a task's stream has grown, in a block. A ring may be lost: look by yourself, too."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._hearing.run())
        channel = self._broker.keys.bell(task)
        rung = asyncio.Event()
        self._rung.setdefault(channel, set()).add(rung)
        try:
            with contextlib.suppress(StoreUnavailable):
                await self._hearing.subscribe(channel)
            yield rung
        finally:
            self._rung[channel].discard(rung)
            if not self._rung[channel]:
                del self._rung[channel]
                await self._hearing.unsubscribe(channel)

    async def aclose(self) -> None:
        """Hear nothing any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _hear(self, channel: str, _: bytes | None) -> None:
        for rung in self._rung.get(channel, ()):
            rung.set()
