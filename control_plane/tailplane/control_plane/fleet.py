"""The fleet's minder: gives back what workers held whose lease has run out.

Every control plane runs one (and so may workers): `reap` is one script that checks the lease again, so it does no harm
if several come at once. Together with the lease's length its interval bounds how long a killed worker's tasks wait.
"""

import asyncio
import random
from datetime import timedelta

import structlog

from tailplane.broker import Queue
from tailplane.protocol.errors import StoreUnavailable

MIND_EVERY = timedelta(seconds=1)

log = structlog.get_logger(__name__)


class FleetMinder:
    """Looks for lapsed leases, once in a while, for as long as it runs."""

    def __init__(self, queue: Queue, every: timedelta = MIND_EVERY) -> None:
        self._queue = queue
        self._every = every
        self._store_away = False

    async def run(self) -> None:
        """Mind the fleet until cancelled; Redis may come and go."""
        while True:
            # Jitter keeps a deployment's control planes from asking all at once.
            await asyncio.sleep(self._every.total_seconds() * random.uniform(0.8, 1.2))
            await self._mind_safely()

    async def mind(self) -> int:
        """Give back the tasks of every worker whose lease has run out; return how many tasks.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        returned = 0
        for worker in await self._queue.lapsed():
            tasks = await self._queue.reap(worker)
            # Below 0: it has renewed its lease meanwhile.
            if tasks >= 0:
                log.warning("worker lost, its tasks were given back", worker_id=worker, tasks=tasks)
                returned += tasks
        return returned

    async def _mind_safely(self) -> None:
        try:
            await self.mind()
        except StoreUnavailable as error:
            # Said once, not once a second.
            if not self._store_away:
                log.warning("the store is away: nobody minds the fleet", error=error.detail)
            self._store_away = True
        except Exception:
            # A surprise must not end the only one who gives back tasks.
            log.exception("minding the fleet failed")
        else:
            if self._store_away:
                log.info("the store is back")
            self._store_away = False
