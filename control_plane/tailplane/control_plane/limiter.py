"""Refuses submits of tenants and API keys that submit more often, or have written more, than they may.

Asked of every task that comes in by HTTP, before anything is recorded. Who has no limit costs nothing. What comes again
under its idempotency key gets its answer, whatever the limits say, and takes nothing of them.
"""

import random

from tailplane.broker import Broker, Request, TenantRecord
from tailplane.broker.usage import Left, Rate, Stored
from tailplane.control_plane import limit_fields
from tailplane.control_plane.access import Caller
from tailplane.control_plane.known_keys import KnownKeys
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.stored import StoredBytes
from tailplane.protocol.errors import QuotaExceeded, RateLimited


class Allowance:
    """On whose account one request submits, and what is left of it then.

    Attributes:
        caller: who makes the request.
        left: of each rate that the caller has; empty before it was asked for, and where it has none.
    """

    __slots__ = ("caller", "left")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.left: list[Left] = []

    @property
    def headers(self) -> dict[str, str]:
        """What the answer tells of it."""
        return limit_fields.of_submit(self.left) if self.left else {}


class Limiter:
    """The limits of submits of one deployment."""

    def __init__(self, broker: Broker, tenants: KnownTenants, keys: KnownKeys, stored: StoredBytes) -> None:
        self._broker = broker
        self._tenants = tenants
        self._keys = keys
        self._stored = stored

    async def take(self, allowance: Allowance, request: Request | None) -> None:
        """Take one submit of what the caller may.

        Args:
            request: the idempotency key that it came with.
        Raises:
            RateLimited: it has submitted too many of late; nothing was taken.
            QuotaExceeded: its tasks have written too much.
            StoreUnavailable: nobody can tell.
        """
        tenant, rates = await self.rates_of(allowance.caller)
        await self._check_stored(tenant, request)
        if not rates:
            return
        may, allowance.left = await self._broker.usage.take_submit(tenant.tenant, rates, request)
        if not may:
            raise _limited(max(allowance.left, key=lambda each: each.until_one))

    async def check_stored(self, caller: Caller, request: Request | None = None) -> None:
        """Let a caller keep something, if its tenant has not written too much: what is no task takes no submit.

        Raises:
            QuotaExceeded: it has; and `request` was not answered before.
            StoreUnavailable: nobody can tell.
        """
        await self._check_stored(await self._tenants.find(caller.tenant), request)

    async def _check_stored(self, tenant: TenantRecord, request: Request | None) -> None:
        if tenant.max_stored_bytes is None:
            return
        stored = await self._stored.find(tenant.tenant)
        if stored.count < tenant.max_stored_bytes:
            return
        if request is None or await self._broker.queue.made_by(tenant.tenant, request) is None:
            raise _exceeded(tenant, stored)

    async def rates_of(self, caller: Caller) -> tuple[TenantRecord, list[Rate]]:
        """Return a caller's tenant, and how many tasks that, and its API key, may submit, where either has a limit.

        Raises:
            StoreUnavailable: nothing is known yet, and Redis does not answer.
        """
        tenant = await self._tenants.find(caller.tenant)
        rates = [] if tenant.submits_per_second is None else [Rate(tenant.tenant, tenant.submits_per_second)]
        key = None if caller.key_id is None else await self._keys.find(caller.key_id)
        if key is not None and key.submits_per_second is not None:
            rates.append(Rate(key.key_id, key.submits_per_second, is_of_key=True))
        return tenant, rates


def _limited(left: Left) -> RateLimited:
    rate, whose = left.rate, "API key" if left.rate.is_of_key else "tenant"
    # Drawn up to twice as late, or a second: what was refused at once does not come back at once.
    wait = random.uniform(left.until_one, left.until_one + max(left.until_one, 1.0))
    return RateLimited(
        f"the {whose} may submit at most {rate.per_second:g} a second, and {rate.burst} at once",
        limit=rate.burst,
        window=rate.burst / rate.per_second,
        of="key" if rate.is_of_key else "tenant",
        retry_after=round(wait, 3),
    )


def _exceeded(tenant: TenantRecord, stored: Stored) -> QuotaExceeded:
    limit = tenant.max_stored_bytes or 0
    return QuotaExceeded(
        f"the tenant's tasks have written {stored.count:,} bytes of late, and {limit:,} are kept of them",
        stored=stored.count,
        limit=limit,
        retry_after=max(1.0, round(random.uniform(1.0, 1.1) * stored.until_less, 3)),
    )
