"""The registry of tenants: noted once, limits put as a whole, `default` always there."""

import math
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, TenantRecord
from tailplane.broker.tenants import parse_tenant
from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidId

LIMITED = TenantRecord(
    "acme", weight=3, max_running=5, max_queued=7, submits_per_second=0.5, max_readers=9, max_stored_bytes=1 << 40
)


async def test_the_default_tenant_is_always_there(broker: Broker) -> None:
    default = TenantRecord("default")
    assert await broker.tenants.read("default") == default
    assert await broker.tenants.all() == {"default": default}
    assert await broker.tenants.names() == ["default"]
    assert await broker.tenants.read("acme") is None


async def test_noting_a_tenant_again_changes_nothing(broker: Broker) -> None:
    await broker.tenants.note("acme")
    noted = await broker.tenants.read("acme")
    assert noted is not None
    assert noted.created_at > 0
    assert replace(noted, created_at=0.0) == TenantRecord("acme")
    limited = await broker.tenants.set_limits(LIMITED)
    await broker.tenants.note("acme")
    assert await broker.tenants.read("acme") == limited == replace(LIMITED, created_at=noted.created_at)
    assert list(await broker.tenants.all()) == await broker.tenants.names() == ["acme", "default"]


async def test_limits_are_put_as_a_whole_and_told_to_workers(broker: Broker, redis: Redis) -> None:
    made = await broker.tenants.set_limits(LIMITED)
    assert made.created_at > 0
    assert await redis.zscore(broker.keys.turns, broker.keys.TURNS_VERSION) == 1
    assert await broker.tenants.set_limits(TenantRecord("acme", weight=2)) == replace(
        TenantRecord("acme", weight=2), created_at=made.created_at
    )
    assert await redis.zscore(broker.keys.turns, broker.keys.TURNS_VERSION) == 2


async def test_the_default_tenant_takes_limits_too(broker: Broker) -> None:
    put = await broker.tenants.set_limits(TenantRecord("default", max_running=3))
    assert await broker.tenants.all() == {"default": put}


@pytest.mark.parametrize("limits", [
    {"weight": 0}, {"weight": 1001}, {"max_running": 0}, {"max_running": 2**53}, {"submits_per_second": -1.0},
    {"submits_per_second": math.nan}, {"submits_per_second": math.inf}, {"submits_per_second": 1e-9},
])  # fmt: skip
def test_limits_that_mean_nothing_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is"):
        TenantRecord("acme", **limits)  # type: ignore[arg-type]


async def test_a_name_that_can_be_no_tenants_is_refused(broker: Broker) -> None:
    for name in ("", "A", "a/b", "a:b"):
        with pytest.raises(InvalidId):
            await broker.tenants.note(name)
        with pytest.raises(InvalidId):
            await broker.tenants.read(name)


def test_what_a_newer_control_plane_has_put_is_passed_over() -> None:
    packed = codec.pack({"weight": 4, "colour": "red"})
    assert parse_tenant("acme", packed) == TenantRecord("acme", weight=4)
