"""The first key: made known at the start, and missed where requests need one."""

import asyncio
from datetime import timedelta

import pytest
import structlog
from pydantic import SecretStr

from tailplane.broker import Broker
from tailplane.broker.api_keys import ApiKeys
from tailplane.control_plane import Settings
from tailplane.control_plane.doorkeeper import Doorkeeper
from tailplane.control_plane.first_key import NoKeys, wait_for_keys
from tailplane.control_plane.open_streams import OpenStreams
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import new_key_id
from tailplane.protocol.scopes import Scope

KEY = ApiKey.draw(new_key_id())


def demanding(settings: Settings, key: ApiKey | None = None) -> Settings:
    admin_key = None if key is None else SecretStr(key.text)
    return settings.model_copy(update={"auth": "keys", "admin_key": admin_key})


async def test_without_any_key_it_is_refused(broker: Broker, settings: Settings) -> None:
    with pytest.raises(NoKeys) as caught:
        await wait_for_keys(broker.api_keys, demanding(settings))
    assert "TAILPLANE_ADMIN_KEY" in (caught.value.hint or "")
    await wait_for_keys(broker.api_keys, settings)


async def test_the_key_of_the_environment_is_an_admin_s_of_the_default_tenant(
    broker: Broker, settings: Settings
) -> None:
    for _ in range(2):
        await wait_for_keys(broker.api_keys, demanding(settings, KEY))
    (record,) = (await broker.api_keys.page("default", None, 5)).keys
    assert (record.key_id, record.scopes, record.digest) == (KEY.key_id, {Scope.ADMIN}, KEY.digest)
    # From now on also without it.
    await wait_for_keys(broker.api_keys, demanding(settings))


async def test_a_revoked_one_does_not_count(broker: Broker, settings: Settings) -> None:
    await wait_for_keys(broker.api_keys, demanding(settings, KEY))
    await broker.api_keys.revoke(KEY.key_id)
    with pytest.raises(NoKeys):
        await wait_for_keys(broker.api_keys, demanding(settings, KEY))


async def lose_all_keys(broker: Broker) -> None:
    async for key in broker.redis.scan_iter(f"{broker.keys.prefix}:*", 1000):
        await broker.redis.delete(key)


async def test_where_redis_has_lost_it_it_is_put_again(broker: Broker, settings: Settings) -> None:
    door = Doorkeeper(broker, demanding(settings, KEY), OpenStreams())
    # Not before it was there: the store may be found unfit yet.
    await door.look()
    assert (await broker.api_keys.page("default", None, 5)).keys == []
    await wait_for_keys(broker.api_keys, demanding(settings, KEY))
    for _ in range(2):
        await door.look()
        await lose_all_keys(broker)
        await door.look()
        (record,) = (await broker.api_keys.page("default", None, 5)).keys
        assert (record.key_id, record.scopes, record.digest) == (KEY.key_id, {Scope.ADMIN}, KEY.digest)


async def test_one_that_was_revoked_is_not(broker: Broker, settings: Settings) -> None:
    door = Doorkeeper(broker, demanding(settings, KEY), OpenStreams())
    await wait_for_keys(broker.api_keys, demanding(settings, KEY))
    await door.look()
    await broker.api_keys.revoke(KEY.key_id)
    for _ in range(2):
        await door.look()
        assert (await broker.api_keys.read(KEY.key_id)).revoked_at is not None
    await lose_all_keys(broker)
    for _ in range(2):
        await door.look()
        assert (await broker.api_keys.page("default", None, 5)).keys == []


@pytest.mark.parametrize("grace", [timedelta(), timedelta(hours=1)])
async def test_one_whose_secret_was_rotated_away_is_not_and_that_is_said_once(
    broker: Broker, settings: Settings, grace: timedelta
) -> None:
    door = Doorkeeper(broker, demanding(settings, KEY), OpenStreams())
    await wait_for_keys(broker.api_keys, demanding(settings, KEY))
    await door.look()
    _, new = await broker.api_keys.rotate(KEY.key_id, grace)
    await door.look()
    await lose_all_keys(broker)
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            await door.look()
            assert (await broker.api_keys.page("default", None, 5)).keys == []
    assert [line["log_level"] for line in logged] == ["error"]
    # The new secret is put again by who has it in its settings.
    door = Doorkeeper(broker, demanding(settings, new), OpenStreams())
    await wait_for_keys(broker.api_keys, demanding(settings, new))
    await door.look()
    await lose_all_keys(broker)
    await door.look()
    (record,) = (await broker.api_keys.page("default", None, 5)).keys
    assert (record.key_id, record.digest) == (KEY.key_id, new.digest)


async def test_while_redis_is_away_it_waits(
    broker: Broker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, look = [], ApiKeys.any_is_live

    async def away_at_first(self: ApiKeys) -> bool:
        asked.append(self)
        if len(asked) < 3:
            raise StoreUnavailable
        return await look(self)

    monkeypatch.setattr(ApiKeys, "any_is_live", away_at_first)
    monkeypatch.setattr("tailplane.control_plane.first_key._PAUSE", 0.01)
    async with asyncio.timeout(20):
        await wait_for_keys(broker.api_keys, demanding(settings, KEY))
    assert len(asked) == 3
