"""How much the tenants' tasks have written: what tasks bring with them is told to Redis, and the sums are looked up.

Both once a second, in one round trip each. Sums are looked up only of tenants that have a limit and submit; workers
tell what events add to them. So a sum is as of a second ago, but for what this control plane has taken since.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tailplane.broker import Outage
from tailplane.broker.usage import Stored, Usage
from tailplane.control_plane.periodic import repeat
from tailplane.protocol.errors import StoreUnavailable

EVERY = timedelta(seconds=1)
# Seconds for which a sum is good while Redis can't be asked, and for which one is looked up that nobody asks for.
_TRUSTED = 10.0
_IDLE = 60.0


@dataclass(slots=True)
class _Known:
    stored: Stored
    looked_at: float
    used_at: float


class StoredBytes:
    """Keeps account of what is written.

    Attributes:
        outage: whether Redis can't be asked.
    """

    def __init__(self, usage: Usage, clock: Callable[[], float] = time.monotonic) -> None:
        self._usage = usage
        self._clock = clock
        self._known: dict[str, _Known] = {}
        # Tenants: no more than those that submit within a second, or while Redis is away.
        self._untold: Counter[str] = Counter()
        self.outage = Outage("counting what is stored")

    async def run(self) -> None:
        """Tell and look up until cancelled; Redis may come and go."""
        await repeat(self.refresh, EVERY, self.outage)

    def note(self, tenant: str, count: int) -> None:
        """Note bytes that a tenant has put into Redis."""
        self._untold[tenant] += count

    async def find(self, tenant: str) -> Stored:
        """Return what a tenant's tasks have written.

        Raises:
            StoreUnavailable: it is not known, and Redis does not answer.
        """
        now, known = self._clock(), self._known.get(tenant)
        if known is None or now - known.looked_at > _TRUSTED:
            found = (await self._usage.stored([tenant]))[tenant]
            known = self._known[tenant] = _Known(found, now, now)
        known.used_at = now
        return Stored(known.stored.count + self._untold[tenant], known.stored.until_less)

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
        now = self._clock()
        self._known = {tenant: known for tenant, known in self._known.items() if now - known.used_at <= _IDLE}
        for tenant, stored in (await self._usage.stored(list(self._known))).items():
            known = self._known[tenant]
            known.stored, known.looked_at = stored, now
