"""A view of a stream for those who can't take each event by itself, such as a screen: lists, in intervals."""

import asyncio
from typing import Generic, Protocol, Self, TypeVar

from tailplane.client.durations import Duration, seconds

T = TypeVar("T")


class Batched(Protocol[T]):
    """What gives its items in lists."""

    async def take(self) -> list[T]:
        """Return the next items, at least one; raise StopAsyncIteration at the end."""
        ...

    async def aclose(self) -> None:
        """Give up what it holds."""
        ...


class Coalesced(Generic[T]):
    """Yields lists of what arrived since the last one, at most one per interval, the first at once.

    Nothing runs in between: what arrives waits in the stream's own bounded buffer.
    """

    def __init__(self, source: Batched[T], interval: Duration) -> None:
        """View `source`; `interval` is a timedelta or seconds, 0 for lists as they come."""
        self._source = source
        self._interval_s = seconds(interval)
        self._due_at: float | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        clock = asyncio.get_running_loop().time
        if self._due_at is not None and self._due_at > clock():
            await asyncio.sleep(self._due_at - clock())
        items = await self._source.take()
        self._due_at = clock() + self._interval_s
        return items

    async def take(self) -> list[list[T]]:
        """Return the next list as the only one of a list, so that a view is `Batched` itself."""
        return [await anext(self)]

    async def aclose(self) -> None:
        """Close the stream itself."""
        await self._source.aclose()
