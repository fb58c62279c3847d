"""The tenants of a deployment, and what each of them may take. Lives on the queue's server.

Control planes and operators write it; workers read what a claim needs of it. A tenant is known from when it is noted,
or its limits are set; `default` always is. They hold from the next claim on: who sets them raises the version by which
workers find out that what they know of the queues is old (`scripts/claim.lua`).
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from typing import Any

from tailplane.broker.keys import Keys
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol import codec
from tailplane.protocol.ids import DEFAULT_TENANT, check_tenant

MAX_WEIGHT = 1000
# Submits per second that a tenant or an API key may be given: one in eleven days, and more than a server takes. Beyond
# them times and counts are no integers any more.
SLOWEST, FASTEST = 0.000_001, 1_000_000.0
# What integers are exact in Lua.
_MOST = 2**53 - 1


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant, and its limits; None: the deployment's, where that has one, else none.

    Attributes:
        weight: its share of the workers' slots beside other tenants' weights, 1-1000.
        max_running: how many of its tasks may run at once in the whole fleet.
        max_queued: how many of its tasks may wait in the queue of one workflow.
        submits_per_second: how many tasks it may submit: from `SLOWEST` to `FASTEST`.
        max_readers: how many streams it may read at once.
        max_stored_bytes: how much its tasks may keep in Redis.
        created_at: seconds since the epoch; 0 of one that was never noted.
    """

    tenant: str
    weight: int = 1
    max_running: int | None = None
    max_queued: int | None = None
    submits_per_second: float | None = None
    max_readers: int | None = None
    max_stored_bytes: int | None = None
    created_at: float = 0.0

    def __post_init__(self) -> None:
        check_tenant(self.tenant)
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"a weight is 1-{MAX_WEIGHT}, not {self.weight}")
        rate = self.submits_per_second
        if rate is not None and not SLOWEST <= rate <= FASTEST:
            raise ValueError(f"submits_per_second is from {SLOWEST:g} to {FASTEST:g}, or None, and not {rate}")
        for name in ("max_running", "max_queued", "max_readers", "max_stored_bytes"):
            bound = getattr(self, name)
            if bound is not None and not 0 < bound <= _MOST:
                raise ValueError(f"{name} is above 0, or None for no bound, and not {bound}")

    def pack(self) -> bytes:
        """Return it as the registry has it under its name."""
        return codec.pack({name: value for name, value in asdict(self).items() if name != "tenant"})


# To make a record takes 5 us, and a worker is told of up to a thousand where queues come and go: mostly the same ones.
@lru_cache(maxsize=2048)
def parse_tenant(tenant: str, packed: bytes | None) -> TenantRecord:
    """Return what the registry says of a tenant; one that it does not know has no limits of its own."""
    if packed is None:
        return TenantRecord(tenant)
    # A newer control plane may have put more than this program knows.
    names = {each.name for each in dataclass_fields(TenantRecord)}
    given: dict[str, Any] = codec.unpack(packed)
    return TenantRecord(tenant, **{name: value for name, value in given.items() if name in names})


@dataclass(frozen=True, slots=True)
class Tenants:
    """The registry of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def note(self, tenant: str) -> None:
        """Let there be such a tenant, without limits of its own; one that there is stays as it is.

        Raises:
            InvalidId: no tenant can have this name.
        """
        new = TenantRecord(tenant, created_at=time.time())
        await self.wire.run("HSETNX", self.keys.tenants, tenant, new.pack())

    async def read(self, tenant: str) -> TenantRecord | None:
        """Return a tenant; None: there is none. `default` there always is."""
        packed = await self.wire.run("HGET", self.keys.tenants, check_tenant(tenant))
        return None if packed is None and tenant != DEFAULT_TENANT else parse_tenant(tenant, packed)

    async def all(self) -> dict[str, TenantRecord]:
        """Return all tenants by name, in its order; `default` is one of them."""
        rows = await self.wire.run("HGETALL", self.keys.tenants)
        found: Mapping[str, bytes | None] = {
            DEFAULT_TENANT: None,
            **{name.decode(): packed for name, packed in zip(rows[::2], rows[1::2], strict=True)},
        }
        return {tenant: parse_tenant(tenant, packed) for tenant, packed in sorted(found.items())}

    async def version(self) -> int:
        """Return what grows when the limits of any tenant are set."""
        return int(float(await self.wire.run("ZSCORE", self.keys.turns, self.keys.LIMITS_VERSION) or 0))

    async def names(self) -> list[str]:
        """Return the names of all tenants, sorted; `default` is one of them."""
        rows = await self.wire.run("HKEYS", self.keys.tenants)
        return sorted({DEFAULT_TENANT, *(name.decode() for name in rows)})

    async def set_limits(self, record: TenantRecord) -> TenantRecord:
        """Put a tenant's limits, all of them, and let there be such a tenant; return it as it stands then.

        `created_at` stays what it was.
        """
        known = await self.read(record.tenant)
        created_at = known.created_at if known is not None and known.created_at else time.time()
        standing = replace(record, created_at=created_at)
        replies = await self.wire.call(
            [
                ("MULTI",),
                ("HSET", self.keys.tenants, record.tenant, standing.pack()),
                # Workers ask anew when the one has grown, control planes when the other has.
                ("ZADD", self.keys.turns, "INCR", 1, self.keys.TURNS_VERSION),
                ("ZADD", self.keys.turns, "INCR", 1, self.keys.LIMITS_VERSION),
                ("EXEC",),
            ]
        )
        raise_refusals(replies)
        raise_refusals(replies[-1])
        return standing
