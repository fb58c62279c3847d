"""The turnstile: no one is refused by what was told long ago, unless Redis is away; without a limit nobody is asked."""

import pytest

from tailplane.broker import Broker, TenantRecord
from tailplane.broker.usage import Usage
from tailplane.control_plane.access import ANYBODY
from tailplane.control_plane.known_keys import KnownKeys
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.open_streams import OpenStreams
from tailplane.control_plane.turnstile import Turnstile
from tailplane.protocol.errors import StoreUnavailable, TooManyReaders


def turnstile_of(broker: Broker) -> Turnstile:
    return Turnstile(OpenStreams(), broker.usage, KnownTenants(broker.tenants, 100), KnownKeys(broker.api_keys))


@pytest.fixture
def lose_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_self: Usage, _me: str, counts: dict[str, int]) -> dict[str, int]:
        raise StoreUnavailable

    monkeypatch.setattr(Usage, "tell_readers", away)


async def test_without_a_limit_nobody_is_asked(broker: Broker, lose_redis: None) -> None:
    turnstile = turnstile_of(broker)
    places = [await turnstile.enter(ANYBODY) for _ in range(10)]
    assert turnstile.readers("default") == len(places)


async def test_while_redis_is_away_what_was_told_last_holds(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    await broker.tenants.set_limits(TenantRecord("default", max_readers=3))
    here, there = turnstile_of(broker), turnstile_of(broker)
    await there.enter(ANYBODY)
    await there.exchange()
    first = await here.enter(ANYBODY)

    async def away(_self: Usage, _me: str, counts: dict[str, int]) -> dict[str, int]:
        raise StoreUnavailable

    monkeypatch.setattr(Usage, "tell_readers", away)
    monkeypatch.setattr("tailplane.control_plane.turnstile._FRESH", 0.0)
    await here.enter(ANYBODY)
    with pytest.raises(TooManyReaders):
        await here.enter(ANYBODY)
    assert here.outage.is_on
    first.leave()
    await here.enter(ANYBODY)


async def test_a_place_that_came_free_elsewhere_is_found_before_anybody_is_refused(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailplane.control_plane.turnstile._FRESH", 0.0)
    await broker.tenants.set_limits(TenantRecord("default", max_readers=2))
    here, there = turnstile_of(broker), turnstile_of(broker)
    place = await there.enter(ANYBODY)
    await there.exchange()
    await here.enter(ANYBODY)
    with pytest.raises(TooManyReaders):
        await here.enter(ANYBODY)
    place.leave()
    await there.exchange()
    assert here.readers("default") == 2
    await here.enter(ANYBODY)


async def test_who_has_left_is_told_of_once_more_and_then_not(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    await broker.tenants.set_limits(TenantRecord("default", max_readers=3))
    turnstile, told, tell = turnstile_of(broker), list[dict[str, int]](), Usage.tell_readers

    async def noted(self: Usage, me: str, counts: dict[str, int]) -> dict[str, int]:
        told.append(dict(counts))
        return await tell(self, me, counts)

    place = await turnstile.enter(ANYBODY)
    await turnstile.exchange()
    place.leave()
    monkeypatch.setattr(Usage, "tell_readers", noted)
    for _ in range(2):
        await turnstile.exchange()
    assert told == [{"default": 0}, {}]
    assert not await broker.redis.exists(broker.keys.readers("default"))


async def test_one_that_stops_tells_that_it_has_none_from_then_on(broker: Broker) -> None:
    await broker.tenants.set_limits(TenantRecord("default", max_readers=3))
    turnstile = turnstile_of(broker)
    await turnstile.enter(ANYBODY)
    await turnstile.exchange()
    await turnstile.close()
    await turnstile.exchange()
    assert not await broker.redis.exists(broker.keys.readers("default"))
