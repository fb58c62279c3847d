"""The fleet's minder: gives back what workers held whose lease has run out.

Every control plane runs one (and so may workers): `reap` is one script that checks the lease again, so it does no harm
if several come at once. Together with the lease's length its interval bounds how long a killed worker's tasks wait.
"""

import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from tailplane.broker import Outage, Queue
from tailplane.control_plane.periodic import repeat
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import WorkerId

MIND_EVERY = timedelta(milliseconds=500)
# After Redis was away every lease is stale, of the living too: they get this long to renew. Above lease and renewal.
TRUST_AFTER = timedelta(seconds=5)
# Seconds that a look may take; a longer one means that Redis, or this process, stood still.
PROMPT = 1.0

log = structlog.get_logger(__name__)


class FleetMinder:
    """Looks for lapsed leases, once in a while, for as long as it runs.

    Args:
        trust_after: how long the store must have answered without a break before a stale lease means a lost worker.

    Attributes:
        lost: workers whose tasks this one gave back.
        given_back: those tasks.
        outage: whether Redis can't be asked.
    """

    def __init__(
        self,
        queue: Queue,
        every: timedelta = MIND_EVERY,
        *,
        trust_after: timedelta = TRUST_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._every = every
        self._trust_after = trust_after.total_seconds()
        self._clock = clock
        self.lost = self.given_back = 0
        self.outage = Outage("minding the fleet")
        self._steady_since: float | None = None
        self._connections = 0

    async def run(self) -> None:
        """Mind the fleet until cancelled; Redis may come and go."""
        await repeat(self.mind, self._every, self.outage)

    async def mind(self) -> int:
        """Give back the tasks of every worker whose lease has run out; return how many tasks.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        try:
            lapsed = await self._look()
            return sum([await self._reap(worker) for worker in lapsed])
        except StoreUnavailable:
            # Also where it can be read but not written to: then no lease can be renewed, either.
            self._steady_since = None
            raise

    async def _look(self) -> list[WorkerId]:
        began = self._clock()
        lapsed = await self._queue.lapsed()
        now, connections = self._clock(), self._queue.wire.connections
        # A connection that was lost and made again between two looks may lead to another server: leases of before.
        if self._steady_since is None or now - began > PROMPT or connections != self._connections:
            self._steady_since, self._connections = now, connections
        return lapsed if now - self._steady_since >= self._trust_after else []

    async def _reap(self, worker: WorkerId) -> int:
        tasks = await self._queue.reap(worker)
        # Below 0: it has renewed its lease meanwhile.
        if tasks >= 0:
            self.lost += 1
            self.given_back += tasks
            log.warning("worker lost, its tasks were given back", worker_id=worker, tasks=tasks)
        return max(0, tasks)
