import pytest

from tailplane.broker import Broker, TenantRecord
from tailplane.control_plane import queue_bounds
from tailplane.control_plane.queue_bounds import CACHE_TTL, QueueBounds


async def test_a_tenants_own_bound_goes_before_the_deployments(broker: Broker) -> None:
    now = 0.0
    bounds = QueueBounds(broker.tenants, 100, lambda: now)
    await broker.tenants.set_limits(TenantRecord("acme", max_queued=7))
    await broker.tenants.note("blue")
    assert [await bounds.of(tenant) for tenant in ("acme", "blue", "default", "unknown")] == [7, 100, 100, 100]
    await broker.tenants.set_limits(TenantRecord("acme", max_queued=8))
    assert await bounds.of("acme") == 7
    now += 1.01 * CACHE_TTL
    assert await bounds.of("acme") == 8


async def test_no_more_tenants_are_known_than_a_few(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_bounds, "MOST", 3)
    bounds = QueueBounds(broker.tenants, 100)
    for n in range(9):
        await bounds.of(f"t{n}")
    assert list(bounds._known) == ["t6", "t7", "t8"]
