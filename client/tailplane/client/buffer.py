"""What stands between a stream's reader and its consumer: batches of events, bounded in bytes.

One reader puts, one consumer takes, both on the same event loop. Whole batches change hands, never single events: that
is what makes hundreds of thousands of events a second possible. When it is full the reader stops reading its socket.
"""

import asyncio
from collections import deque

from tailplane.protocol.events import Event


class BatchBuffer:
    """A queue of batches that knows its size in bytes and how it ends."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin empty; at `limit_bytes` it counts as full, and it may exceed that by one batch."""
        self._limit = limit_bytes
        self._batches: deque[tuple[list[Event], int]] = deque()
        self._size = 0
        self._finished = False
        self._error: Exception | None = None
        self._arrival = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether the reader must wait for `room`."""
        return self._size >= self._limit

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will be put; batches may still wait."""
        return self._finished

    @property
    def size_bytes(self) -> int:
        """What waits for the consumer, in bytes on the wire."""
        return self._size

    def put(self, batch: list[Event], size: int) -> None:
        """Hand over a batch that took `size` bytes on the wire."""
        self._batches.append((batch, size))
        self._size += size
        self._arrival.set()

    def finish(self, error: Exception | None) -> None:
        """Say that nothing follows, and why; only the first call counts."""
        if not self._finished:
            self._finished = True
            self._error = error
            self._arrival.set()

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    async def take(self) -> list[Event]:
        """Return the next batch, waiting for it; an empty list when the stream has come to its end.

        Raises:
            Exception: what `finish` was given, after the last batch; at each further call again.
        """
        if self._batches:
            # A consumer that has work without end must not keep the loop from everybody else.
            await asyncio.sleep(0)
        while not self._batches:
            if self._finished:
                if self._error is not None:
                    raise self._error
                return []
            self._arrival.clear()
            await self._arrival.wait()
        batch, size = self._batches.popleft()
        self._size -= size
        self._room.set()
        return batch

    def take_waiting(self) -> list[Event]:
        """Return all that waits, without waiting for more."""
        events = [event for batch, _ in self._batches for event in batch]
        self._batches.clear()
        self._size = 0
        self._room.set()
        return events
