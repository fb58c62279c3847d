"""Revoked tokens are found by every control plane, and forgotten when all tokens of their time have expired."""

import time

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker
from tailplane.broker.revoked_tokens import KEPT, Revoked
from tailplane.control_plane.revocations import Revocations
from tailplane.protocol.credentials import LONGEST_LIFE, new_token_id
from tailplane.protocol.ids import new_key_id

KEPT_MS = int(KEPT.total_seconds() * 1000)


async def test_what_is_new_is_read_and_in_one_go_however_much_it_is(broker: Broker, redis: Redis) -> None:
    tokens = broker.revoked_tokens
    assert await tokens.since(0) == ([], 0)
    first, second = (Revoked("acme", new_token_id(None)) for _ in range(2))
    await tokens.add(first)
    found, last = await tokens.since(0)
    assert found == [first]
    await tokens.add(second)
    found, _ = await tokens.since(last)
    # Of the last moments some come again.
    assert found[-1] == second
    pipeline = redis.pipeline()
    for number in range(25_000):
        pipeline.xadd(broker.keys.revoked_tokens, {"t": f"acme/nobody.{number:016}"})
    await pipeline.execute()
    found, _ = await tokens.since(last)
    assert len(set(found)) == 25_002
    assert found[-1] == Revoked("acme", f"nobody.{24_999:016}")


async def test_what_lies_long_enough_behind_is_not_read_again(broker: Broker, redis: Redis) -> None:
    old = int(time.time() * 1000) - 60_000
    await redis.xadd(broker.keys.revoked_tokens, {"t": "acme/nobody.old"}, id=f"{old}-0")
    _, last = await broker.revoked_tokens.since(0)
    assert last == old
    await broker.revoked_tokens.add(Revoked("acme", "nobody.new"))
    found, last = await broker.revoked_tokens.since(last)
    assert [token.token_id for token in found] == ["nobody.old", "nobody.new"]
    found, _ = await broker.revoked_tokens.since(last)
    assert found == [Revoked("acme", "nobody.new")]


async def test_a_server_whose_clock_is_behind_hides_none(broker: Broker, redis: Redis) -> None:
    await broker.revoked_tokens.add(Revoked("acme", "nobody.lost"))
    _, last = await broker.revoked_tokens.since(0)
    # A failover lost it, and what is revoked then is numbered by another clock.
    await redis.delete(broker.keys.revoked_tokens)
    await redis.xadd(broker.keys.revoked_tokens, {"t": "acme/nobody.next"}, id=f"{last - 5000}-0")
    assert await broker.revoked_tokens.since(last) == ([Revoked("acme", "nobody.next")], last)


async def test_they_are_kept_as_long_as_a_token_lives(broker: Broker, redis: Redis) -> None:
    now, where = int(time.time() * 1000), broker.keys.revoked_tokens
    await redis.xadd(where, {"t": "acme/nobody.gone"}, id=f"{now - KEPT_MS - 60_000}-0")
    await redis.xadd(where, {"t": "acme/nobody.kept"}, id=f"{now - int(LONGEST_LIFE.total_seconds() * 1000)}-0")
    await broker.revoked_tokens.add(Revoked("acme", "nobody.new"))
    found, _ = await broker.revoked_tokens.since(0)
    assert [token.token_id for token in found] == ["nobody.kept", "nobody.new"]
    assert KEPT_MS - 60_000 < await redis.pttl(where) <= KEPT_MS


async def test_who_has_a_clock_that_is_ahead_drops_nothing_that_others_revoked(
    broker: Broker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    earlier = f"{int(now - 1200) * 1000}-0"
    await redis.xadd(broker.keys.revoked_tokens, {"t": "acme/nobody.earlier"}, id=earlier)
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    await broker.revoked_tokens.add(Revoked("acme", "nobody.now"))
    found, _ = await broker.revoked_tokens.since(0)
    assert [token.token_id for token in found] == ["nobody.earlier", "nobody.now"]


async def test_a_control_plane_knows_what_others_revoke_and_forgets_it_in_time(broker: Broker) -> None:
    now = [0.0]
    here, there = (Revocations(broker.revoked_tokens, lambda: now[0]) for _ in range(2))
    token, key = new_token_id(new_key_id()), new_key_id()
    await here.revoke(Revoked("acme", token))
    assert here.has(token)
    assert await there.find(token)
    later = new_token_id(key)
    await here.revoke(Revoked("acme", later))
    # Asked again by the round, not by each request.
    assert not await there.find(later)
    await there.look()
    assert await there.find(later)
    now[0] += KEPT.total_seconds()
    await broker.redis.delete(broker.keys.revoked_tokens)
    await there.look()
    assert not there.has(token)
    assert (there._known, there._by_tenant) == ({}, {})
