"""How many tasks of a tenant may wait in a workflow's queue: the tenant's own bound, or else the deployment's."""

import time
from collections import OrderedDict
from collections.abc import Callable

from tailplane.broker import Tenants

# Seconds: a bound that was changed holds so much later at the most.
CACHE_TTL = 1.0
# Tenants that are known at once; beyond them the one that was read first is read again.
MOST = 10_000


class QueueBounds:
    """The bounds of all tenants, each read from Redis at most once a second.

    Args:
        deployment: that of a tenant which has none of its own.
    """

    def __init__(self, tenants: Tenants, deployment: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._tenants = tenants
        self._deployment = deployment
        self._clock = clock
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def of(self, tenant: str) -> int:
        """Return the bound of a tenant's queues.

        Raises:
            StoreUnavailable: it is not known, and Redis does not answer.
        """
        known = self._known.get(tenant)
        if known is not None and self._clock() - known[1] <= CACHE_TTL:
            return known[0]
        read_at, record = self._clock(), await self._tenants.read(tenant)
        bound = (record.max_queued if record else None) or self._deployment
        self._known[tenant] = bound, read_at
        self._known.move_to_end(tenant)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return bound
