"""What this control plane knows of the tenants' limits, so that a request need not ask Redis for them.

Once a second it looks whether anybody has set limits since, and only then reads them. While Redis is away, what was
known last holds.
"""

import time
from collections.abc import Callable, Mapping

from tailplane.broker import Outage, TenantRecord, Tenants
from tailplane.control_plane.known import REFRESH
from tailplane.control_plane.periodic import repeat

# Seconds after which all is read again, whatever the version says: a failover may have lost that.
_UNASKED = 60.0


class KnownTenants:
    """Knows the tenants' limits.

    Args:
        max_queued: how many tasks of a tenant may wait in a workflow's queue, where it has no bound of its own.

    Attributes:
        outage: whether Redis can't be asked.
    """

    def __init__(self, tenants: Tenants, max_queued: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._tenants = tenants
        self._max_queued = max_queued
        self._clock = clock
        self._records: dict[str, TenantRecord] | None = None
        self._version = 0
        self._read_at = 0.0
        self.outage = Outage("looking after tenants")

    @property
    def records(self) -> Mapping[str, TenantRecord]:
        """Those that are known, by name: none before anybody has asked."""
        return self._records or {}

    async def run(self) -> None:
        """Look for new limits until cancelled; Redis may come and go."""
        await repeat(self.refresh, REFRESH, self.outage)

    async def find(self, tenant: str) -> TenantRecord:
        """Return a tenant with its limits; one that is not in the registry has none.

        Raises:
            StoreUnavailable: nothing is known yet, and Redis does not answer.
        """
        if self._records is None:
            await self.refresh()
        return self.records.get(tenant) or TenantRecord(tenant)

    async def max_queued(self, tenant: str) -> int:
        """Return how many tasks of a tenant may wait in a workflow's queue.

        Raises:
            StoreUnavailable: nothing is known yet, and Redis does not answer.
        """
        return (await self.find(tenant)).max_queued or self._max_queued

    async def refresh(self) -> None:
        """Read the limits, if they may have changed.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        # First: limits that are set in between are read again the next time.
        version = await self._tenants.version()
        is_new = self._records is None or version != self._version or self._clock() - self._read_at > _UNASKED
        if is_new:
            records = await self._tenants.all()
            self._records, self._version, self._read_at = records, version, self._clock()
