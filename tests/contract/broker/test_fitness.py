"""Which servers may hold live streams: what the programs look at before they begin."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tailplane.broker import UnfitStore, connect, fitness, mind_fitness, wait_until_fit
from tailplane.deploy.embedded import EmbeddedServer


@pytest.fixture
async def client(own: EmbeddedServer) -> AsyncIterator[Redis]:
    own.start()
    client = connect(own.url, Redis)
    await client.config_set("maxmemory-policy", "noeviction")
    yield client
    await client.aclose(close_connection_pool=True)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"])
async def test_a_server_that_may_drop_streams_is_refused_with_what_would_be_right(client: Redis, policy: str) -> None:
    await client.config_set("maxmemory-policy", policy)
    with pytest.raises(UnfitStore) as caught:
        await wait_until_fit(client)
    assert policy in caught.value.detail
    assert "CONFIG SET maxmemory-policy noeviction" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"save": "", "appendonly": "no"}, "nothing is written to disk"),
        ({"save": "3600 1", "appendonly": "no"}, "snapshots only"),
        ({"save": "", "appendonly": "yes"}, None),
    ],
)
async def test_a_server_that_keeps_little_is_taken_with_a_warning(
    client: Redis, settings: dict[str, Any], found: str | None
) -> None:
    for name, value in settings.items():
        await client.config_set(name, value)
    with capture_logs() as logs:
        await wait_until_fit(client)
    assert [each["log_level"] for each in logs] == ([] if found is None else ["warning"])
    assert all(str(each["found"]).startswith(str(found)) and each["remedy"] for each in logs)


async def test_a_server_that_may_not_be_asked_is_taken_with_a_warning(client: Redis, own: EmbeddedServer) -> None:
    await client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info", "-config")
    restricted = connect(own.url.replace("://", "://app:pw@"), Redis)
    with capture_logs() as logs:
        await wait_until_fit(restricted)
    assert [each["found"] for each in logs] == ["the server does not tell its maxmemory-policy"]
    await restricted.aclose(close_connection_pool=True)


async def test_without_config_the_policy_is_known_all_the_same(client: Redis, own: EmbeddedServer) -> None:
    await client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-config")
    await client.config_set("maxmemory-policy", "volatile-lru")
    restricted = connect(own.url.replace("://", "://app:pw@"), Redis)
    with pytest.raises(UnfitStore):
        await wait_until_fit(restricted)
    await restricted.aclose(close_connection_pool=True)


async def test_a_server_that_is_away_is_waited_for_and_then_looked_at(client: Redis, own: EmbeddedServer) -> None:
    own.kill()
    with capture_logs() as logs:
        waiting = asyncio.ensure_future(wait_until_fit(client))
        done, _ = await asyncio.wait({waiting}, timeout=1)
    assert not done
    assert [(each["event"], each["hint"]) for each in logs] == [
        ("Redis is away", "TAILPLANE_REDIS_URL says where Redis is")
    ]
    await asyncio.to_thread(own.start)
    await asyncio.wait_for(waiting, 10)


async def test_a_policy_that_changes_later_is_logged_once_each_time(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "LOOK_EVERY", 0.02)

    minding = asyncio.ensure_future(mind_fitness(client))
    with capture_logs() as logs:
        for policy in ("allkeys-lru", "noeviction", "volatile-lru", "noeviction"):
            await client.config_set("maxmemory-policy", policy)
            async with asyncio.timeout(10):
                while policy != "noeviction" and (not logs or policy not in logs[-1]["found"]):
                    await asyncio.sleep(0.01)
            # Some more looks, at what has been told already or is fine again.
            await asyncio.sleep(0.3)
    minding.cancel()
    assert [(each["log_level"], each["found"].split(":")[0]) for each in logs] == [
        ("error", "maxmemory-policy is allkeys-lru"),
        ("error", "maxmemory-policy is volatile-lru"),
    ]
