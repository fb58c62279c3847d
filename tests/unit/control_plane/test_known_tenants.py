"""What a control plane knows of tenants is read when it is set, and holds while Redis is away."""

import pytest

from tailplane.broker import Broker, TaskRef, TenantRecord, Tenants
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import new_task_id


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_tenant_that_is_not_in_the_registry_has_no_limits(broker: Broker) -> None:
    known = KnownTenants(broker.tenants, 100)
    assert await known.find("nobody") == TenantRecord("nobody")
    assert set(known.records) == {"default"}


async def test_all_are_read_only_where_somebody_has_set_limits(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, clock = 0, Clock()

    async def counted(self: Tenants) -> dict[str, TenantRecord]:
        nonlocal reads
        reads += 1
        return await read_all(self)

    read_all = Tenants.all
    monkeypatch.setattr(Tenants, "all", counted)
    known = KnownTenants(broker.tenants, 100, clock)
    for _ in range(3):
        await known.refresh()
    assert reads == 1
    await broker.tenants.set_limits(TenantRecord("acme", max_readers=2))
    for _ in range(3):
        await known.refresh()
    assert reads == 2
    assert (await known.find("acme")).max_readers == 2
    # Tenants whose queues come and go are none of it.
    await broker.queue.enqueue(TaskRef(new_task_id(), "acme"), "a")
    await known.refresh()
    assert reads == 2
    # A failover may have lost the version, too.
    clock.now += 61
    await known.refresh()
    assert reads == 3


async def test_a_tenants_own_bound_of_its_queues_goes_before_the_deployments(broker: Broker) -> None:
    await broker.tenants.set_limits(TenantRecord("acme", max_queued=7))
    await broker.tenants.note("blue")
    known = KnownTenants(broker.tenants, 100)
    assert [await known.max_queued(name) for name in ("acme", "blue", "default", "unknown")] == [7, 100, 100, 100]
    await broker.tenants.set_limits(TenantRecord("acme", max_queued=8))
    assert await known.max_queued("acme") == 7
    await known.refresh()
    assert await known.max_queued("acme") == 8


async def test_what_is_known_holds_while_redis_is_away(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    await broker.tenants.set_limits(TenantRecord("acme", max_readers=2))
    known = KnownTenants(broker.tenants, 100)
    await known.refresh()

    async def away(_self: Tenants) -> int:
        raise StoreUnavailable

    monkeypatch.setattr(Tenants, "version", away)
    with pytest.raises(StoreUnavailable):
        await known.refresh()
    assert (await known.find("acme")).max_readers == 2
    with pytest.raises(StoreUnavailable):
        await KnownTenants(broker.tenants, 100).find("acme")
