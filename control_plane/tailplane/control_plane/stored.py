"""How much the tenants' tasks have written: what tasks bring with them is told to Redis, and the sums are looked up.

Both once a second, in one round trip each. Sums are looked up only of tenants that have a limit and submit; workers
tell what events add to them. So a sum is as of a second ago, but for what this control plane has taken since.
"""

from collections import Counter

from tailplane.broker import Outage
from tailplane.broker.usage import Stored, Usage
from tailplane.control_plane.known import REFRESH, Known
from tailplane.control_plane.periodic import repeat
from tailplane.protocol.errors import StoreUnavailable


class StoredBytes:
    """Keeps account of what is written.

    Attributes:
        outage: whether Redis can't be asked.
    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._known: Known[str, Stored] = Known(usage.stored)
        # Tenants: no more than those that submit within a second, or while Redis is away.
        self._untold: Counter[str] = Counter()
        self.outage = Outage("counting what is stored")

    async def run(self) -> None:
        """Tell and look up until cancelled; Redis may come and go."""
        await repeat(self.refresh, REFRESH, self.outage)

    def note(self, tenant: str, count: int) -> None:
        """Note bytes that a tenant has put into Redis."""
        self._untold[tenant] += count

    async def find(self, tenant: str) -> Stored:
        """Return what a tenant's tasks have written.

        Raises:
            StoreUnavailable: it is not known, and Redis does not answer.
        """
        stored = await self._known.find(tenant)
        # Of a tenant that has written nothing there is a sum, too.
        assert stored is not None
        return Stored(stored.count + self._untold[tenant], stored.until_less)

    async def refresh(self) -> None:
        """Tell what was noted, and look up again what was asked for lately.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        told, self._untold = self._untold, Counter()
        try:
            await self._usage.note_stored({tenant: count for tenant, count in told.items() if count})
        except StoreUnavailable:
            # Told again; twice, where only the reply was lost: it is an estimate.
            self._untold.update(told)
            raise
        await self._known.refresh()
