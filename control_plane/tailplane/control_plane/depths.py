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
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailplane.broker import Queue, queue_name

# Seconds for which a depth is believed. A worker takes a task within milliseconds, so more would tell a task of others
# that run already; and who submits more often than that asks nothing.
FRESH = 0.02
# Seconds: bounds of what a refused caller is asked to wait.
SHORTEST_WAIT = 1.0
LONGEST_WAIT = 30.0
# Queues that are known at once; beyond them the one that was asked for least recently is forgotten.
MOST = 10_000
# A queue below this share of its bound has room, and is not only full but for the places that come free one by one.
_ROOM = 0.9


class Depth:
    """The depth of one tenant's queue of a workflow.

    Args:
        name: of the queue.

    Attributes:
        limit: how many tasks may wait in it.
    """

    def __init__(self, queue: Queue, name: str, limit: int, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._name = name
        self.limit = limit
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
            self.tell(await self._queue.depth(self._name))
        finally:
            self._asking = None
            asking.set()

    def tell(self, depth: int) -> None:
        """Note how many tasks wait now."""
        self._told, self._told_at = depth, self._clock()
        if depth <= _ROOM * self.limit:
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
    """The depths of all queues: of each tenant and workflow one."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._depths: OrderedDict[str, Depth] = OrderedDict()

    async def of(self, tenant: str, workflow: str, limit: int) -> Depth:
        """Return what is known of a tenant's queue of a workflow that exists; `limit` is how many tasks may wait there.

        Raises:
            StoreUnavailable: nothing is, and Redis does not answer.
        """
        name = queue_name(tenant, workflow)
        depth = self._depths.get(name)
        if depth is None:
            depth = self._depths[name] = Depth(self._queue, name, limit, self._clock)
            if len(self._depths) > MOST:
                self._depths.popitem(last=False)
        self._depths.move_to_end(name)
        depth.limit = limit
        if depth.is_stale:
            await depth.refresh()
        return depth
