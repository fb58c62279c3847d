"""How many tasks wait in each queue, as far as this control plane knows; asked by each submit.

Every enqueue's reply says how deep its queue is (`enqueue.lua`), and what is on its way there from here is counted on
top: a busy control plane knows without asking. One that has heard nothing of a queue for a moment asks Redis, once for
all who want to know. What other control planes and the workers did since the last reply is not known: good enough for
the position that a new task is told, which is out of date a moment later. The bound on a queue does not depend on it.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailplane.broker import Queue

# Seconds for which a depth is believed. A worker takes a task within milliseconds, so more would tell a task of others
# that run already; and who submits more often than that asks nothing.
FRESH = 0.02
# Seconds: bounds of what a refused caller is asked to wait.
SHORTEST_WAIT = 1.0
LONGEST_WAIT = 30.0
# A queue below this share of its bound has room, and is not only full but for the places that come free one by one.
_ROOM = 0.9


class Depth:
    """The depth of one workflow's queue.

    Args:
        limit: how many tasks may wait in it.
    """

    def __init__(self, queue: Queue, workflow: str, limit: int, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._workflow = workflow
        self._limit = limit
        self._clock = clock
        self._told = 0
        self._told_at = -math.inf
        # Tasks that got a position and are not in the queue yet.
        self._coming = 0
        self._asking: asyncio.Event | None = None
        self._full_since = -math.inf
        self._refused_at = -math.inf

    @property
    def is_stale(self) -> bool:
        """Whether it was told too long ago."""
        return self._clock() - self._told_at > FRESH

    async def refresh(self) -> None:
        """Ask Redis, unless the depth was told a moment ago: whoever wants to know meanwhile shares one question.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        if not self.is_stale:
            return
        if self._asking is not None:
            await self._asking.wait()
            return
        self._asking = asking = asyncio.Event()
        try:
            self.tell(await self._queue.depth(self._workflow))
        finally:
            self._asking = None
            asking.set()

    def tell(self, depth: int) -> None:
        """Note how many tasks wait now."""
        self._told, self._told_at = depth, self._clock()
        if depth <= _ROOM * self._limit:
            self._full_since = -math.inf

    @contextmanager
    def joining(self) -> Iterator[int]:
        """Give a new task its position, and count it among those on their way for the length of the block."""
        position = self._told + self._coming
        self._coming += 1
        try:
            yield position
        finally:
            self._coming -= 1

    def wait_when_full(self) -> float:
        """Return for how many seconds the caller whose task was refused should stay away.

        About as long as the queue has been full: nobody knows when that ends, and who comes back in a crowd each second
        is refused each second. Drawn up to double of it, so that a crowd does not come back at once.
        """
        now = self._clock()
        # Who was refused is back before this; else it was another time that the queue was full.
        if self._full_since == -math.inf or now - self._refused_at > 2 * LONGEST_WAIT:
            self._full_since = now
        self._refused_at = now
        least = min(max(now - self._full_since, SHORTEST_WAIT), LONGEST_WAIT / 2)
        return round(random.uniform(least, 2 * least), 3)


class Depths:
    """The depths of all queues."""

    def __init__(self, queue: Queue, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet; `limit` is how many tasks may wait in a queue."""
        self._queue = queue
        self._limit = limit
        self._clock = clock
        self._depths: dict[str, Depth] = {}

    async def of(self, workflow: str) -> Depth:
        """Return what is known of the queue of a workflow that exists.

        Raises:
            StoreUnavailable: nothing is, and Redis does not answer.
        """
        depth = self._depths.get(workflow)
        if depth is None:
            depth = self._depths[workflow] = Depth(self._queue, workflow, self._limit, self._clock)
        if depth.is_stale:
            await depth.refresh()
        return depth
