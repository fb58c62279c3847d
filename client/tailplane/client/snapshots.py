"""A view of a stream that shows all that was written so far, and each thing once, whatever attempts it took."""

from typing import Any, Self

from tailplane.client.coalesce import Coalesced
from tailplane.client.durations import Duration
from tailplane.client.outcome import error_of_event
from tailplane.client.rewinds import Accumulated
from tailplane.client.stream import EventStream
from tailplane.protocol.errors import TaskError


class Snapshots:
    """Yields lists of data: what stands at the time. `Task.snapshots` makes it."""

    def __init__(self, source: EventStream, interval: Duration, channel: str | None) -> None:
        """View `source`, which must tell what the platform says."""
        self._lists = Coalesced(source, interval)
        self._task_id = source.task_id
        self._channel = channel
        self._accumulated = Accumulated()
        self._failure: TaskError | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Any]:
        while True:
            try:
                batch = await anext(self._lists)
            except StopAsyncIteration:
                if self._failure is not None:
                    raise self._failure from None
                raise
            has_changed = False
            for event in batch:
                has_changed |= self._accumulated.add(event)
                if event.is_terminal:
                    self._failure = error_of_event(self._task_id, event)
            if has_changed:
                return self._data()

    async def take(self) -> list[list[Any]]:
        """Return the next list as the only one of a list."""
        return [await anext(self)]

    async def aclose(self) -> None:
        """Stop reading."""
        await self._lists.aclose()

    def _data(self) -> list[Any]:
        wanted = self._channel
        return [event.data for event in self._accumulated.events if wanted is None or event.channel == wanted]
