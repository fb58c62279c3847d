"""A view of a stream that shows all that was written so far, and each thing once, whatever attempts it took."""

import contextlib
from typing import Any, Self

from tailplane.client.coalesce import Coalesced
from tailplane.client.durations import Duration
from tailplane.client.gaps import error_of_gap
from tailplane.client.outcome import error_of_event
from tailplane.client.rewinds import Accumulated
from tailplane.client.stream import EventStream
from tailplane.protocol.errors import TaskError
from tailplane.protocol.events import Event


class Snapshots:
    """Yields lists of data: what stands at the time. `Task.snapshots` makes it."""

    def __init__(self, source: EventStream, interval: Duration, channel: str | None) -> None:
        """View `source`, which must tell what the platform says."""
        self._lists = Coalesced(source, interval)
        self._task_id = source.task_id
        self._channel = channel
        self._accumulated = Accumulated()
        self._has_changed = False
        self._told_gap: Event | None = None
        self._failure: TaskError | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Any]:
        while True:
            gap = self._accumulated.gap
            if gap is not None and gap is not self._told_gap:
                # Once: who goes on looks at what there is.
                self._told_gap = gap
                raise error_of_gap(gap)
            if self._has_changed:
                self._has_changed = False
                return self._data()
            await self._advance()

    async def last(self) -> list[Any]:
        """Wait for the end, and return what stands then.

        Raises: as iteration does; but StreamGap only where what is gone was not superseded.
        """
        with contextlib.suppress(StopAsyncIteration):
            while True:
                await self._advance()
        if self._accumulated.gap is not None:
            raise error_of_gap(self._accumulated.gap)
        return self._data()

    async def take(self) -> list[list[Any]]:
        """Return the next list as the only one of a list."""
        return [await anext(self)]

    async def aclose(self) -> None:
        """Stop reading."""
        await self._lists.aclose()

    async def _advance(self) -> None:
        """Take what has arrived.

        Raises:
            StopAsyncIteration, TaskError: there is no more, and how the task ended.
        """
        try:
            batch = await anext(self._lists)
        except StopAsyncIteration:
            if self._failure is not None:
                raise self._failure from None
            raise
        for event in batch:
            self._has_changed |= self._accumulated.add(event)
            if event.is_terminal:
                self._failure = error_of_event(self._task_id, event)

    def _data(self) -> list[Any]:
        wanted = self._channel
        return [event.data for event in self._accumulated.events if wanted is None or event.channel == wanted]
