"""API keys: what is kept of them, who may use which secret for how long, and how many there may be."""

import asyncio
import time
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Request, api_keys
from tailplane.broker.api_keys import NewKey
from tailplane.protocol.credentials import ApiKey, digest_of
from tailplane.protocol.errors import (
    IdempotencyConflict,
    InvalidId,
    KeyEnded,
    KeyMade,
    KeyNotFound,
    TooManyKeys,
)
from tailplane.protocol.ids import new_key_id
from tailplane.protocol.scopes import Scope

HOUR = timedelta(hours=1)


def new(tenant: str = "acme", *scopes: Scope, **more: object) -> NewKey:
    return NewKey(tenant=tenant, name="app", scopes=frozenset(scopes or {Scope.READ}), **more)  # type: ignore[arg-type]


async def test_a_key_is_kept_without_its_secret(broker: Broker, redis: Redis, prefix: str) -> None:
    wanted = new("acme", Scope.READ, Scope.SUBMIT, expires_in=HOUR, submits_per_second=2.5, max_readers=7)
    record, key = await broker.api_keys.create(wanted)
    assert record == await broker.api_keys.read(key.key_id)
    assert (record.tenant, record.name, record.scopes) == ("acme", "app", {Scope.READ, Scope.SUBMIT})
    assert (record.submits_per_second, record.max_readers) == (2.5, 7)
    assert record.expires_at == pytest.approx(record.created_at + 3600, abs=1)
    assert record.digests(time.time()) == [key.digest] == [digest_of(key.secret)]
    kept = b"".join([bytes(part) for part in await _all_of(redis, prefix)])
    assert key.digest in kept
    assert key.secret.encode() not in kept
    assert key.secret not in repr((record, key))


async def _all_of(redis: Redis, prefix: str) -> list[bytes]:
    found: list[bytes] = []
    async for name in redis.scan_iter(f"{prefix}:*"):
        match await redis.type(name):
            case b"hash":
                found += [part for pair in (await redis.hgetall(name)).items() for part in pair]
            case b"zset":
                found += await redis.zrange(name, 0, -1)
            case b"string":
                found.append(await redis.get(name))
    return found


async def test_what_a_newer_program_lets_a_key_do_is_passed_over(broker: Broker, redis: Redis) -> None:
    record, _ = await broker.api_keys.create(new("acme", Scope.READ))
    await redis.hset(broker.keys.api_key(record.key_id), "scopes", "audit,read")
    assert (await broker.api_keys.read(record.key_id)).scopes == {Scope.READ}
    await redis.hset(broker.keys.api_key(record.key_id), "scopes", "audit")
    assert (await broker.api_keys.read(record.key_id)).scopes == frozenset()


async def test_a_key_notes_its_tenant(broker: Broker) -> None:
    await broker.api_keys.create(new("acme"))
    assert await broker.tenants.names() == ["acme", "default"]
    with pytest.raises(InvalidId):
        await broker.api_keys.create(new("No tenant"))


async def test_a_tenant_has_its_own_keys_in_the_order_of_their_making(broker: Broker) -> None:
    # `acme-2` begins with another one's name.
    made = [(await broker.api_keys.create(new(tenant)))[0] for tenant in ("acme", "acme-2", "acme", "acme")]
    ours = sorted(made[at].key_id for at in (0, 2, 3))
    first = await broker.api_keys.page("acme", None, 2)
    assert ([record.key_id for record in first.keys], first.next) == (ours[:2], ours[1])
    assert [record.key_id for record in (await broker.api_keys.page("acme", first.next, 2)).keys] == ours[2:]
    assert (await broker.api_keys.page("acme", None, 3)).next is None
    assert (await broker.api_keys.page("acm", None, 3)).keys == []


async def test_a_rotated_key_may_be_used_with_the_secret_before_for_a_while(broker: Broker) -> None:
    record, before = await broker.api_keys.create(new())
    rotated, after = await broker.api_keys.rotate(record.key_id, HOUR)
    assert rotated == await broker.api_keys.read(record.key_id)
    assert after.key_id == record.key_id
    assert rotated.signing == record.signing
    assert rotated.digests(time.time()) == [after.digest, before.digest]
    assert rotated.digests(time.time() + 3601) == [after.digest]


async def test_a_rotation_that_is_repeated_takes_nothing_from_who_uses_the_key(broker: Broker) -> None:
    record, before = await broker.api_keys.create(new())
    # Its answer was lost.
    _, lost = await broker.api_keys.rotate(record.key_id, HOUR)
    rotated, after = await broker.api_keys.rotate(record.key_id, HOUR)
    assert set(rotated.digests(time.time())) == {before.digest, lost.digest, after.digest}


async def test_a_rotation_without_grace_ends_all_secrets_before(broker: Broker) -> None:
    record, _ = await broker.api_keys.create(new())
    await broker.api_keys.rotate(record.key_id, HOUR)
    rotated, after = await broker.api_keys.rotate(record.key_id, timedelta())
    assert rotated.digests(time.time()) == [after.digest]


async def test_a_shorter_grace_holds_for_all_secrets_before(broker: Broker) -> None:
    record, _ = await broker.api_keys.create(new())
    await broker.api_keys.rotate(record.key_id, 24 * HOUR)
    rotated, after = await broker.api_keys.rotate(record.key_id, HOUR)
    assert len(rotated.previous) == 2
    assert rotated.digests(time.time() + 3601) == [after.digest]


async def test_only_the_last_secrets_are_kept(broker: Broker) -> None:
    record, _ = await broker.api_keys.create(new())
    for _ in range(api_keys.MOST_PREVIOUS + 2):
        rotated, _ = await broker.api_keys.rotate(record.key_id, HOUR)
    assert len(rotated.previous) == api_keys.MOST_PREVIOUS


async def test_of_rotations_at_the_same_time_each_secret_is_good(broker: Broker) -> None:
    record, _ = await broker.api_keys.create(new())
    made = await asyncio.gather(*(broker.api_keys.rotate(record.key_id, HOUR) for _ in range(3)))
    good = (await broker.api_keys.read(record.key_id)).digests(time.time())
    assert {key.digest for _, key in made} <= set(good)


async def test_a_revoked_key_stays_revoked(broker: Broker) -> None:
    record, key = await broker.api_keys.create(new())
    revoked = await broker.api_keys.revoke(record.key_id)
    assert revoked.revoked_at is not None
    assert not revoked.is_live(time.time())
    assert (await broker.api_keys.revoke(record.key_id)).revoked_at == revoked.revoked_at
    # As a control plane does at each start, with the key that its environment names.
    assert await broker.api_keys.put(new(), key) == revoked
    with pytest.raises(KeyEnded):
        await broker.api_keys.rotate(record.key_id, HOUR)


async def test_a_key_that_is_put_by_another_tenant_stays_where_it_is(broker: Broker) -> None:
    record, key = await broker.api_keys.create(new("acme"))
    assert await broker.api_keys.put(new("other", Scope.ADMIN), key) == record
    assert (await broker.api_keys.page("other", None, 5)).keys == []


async def test_a_key_that_nobody_has_can_not_be_rotated_or_revoked(broker: Broker, redis: Redis, prefix: str) -> None:
    for change in (broker.api_keys.revoke(new_key_id()), broker.api_keys.rotate(new_key_id(), HOUR)):
        with pytest.raises(KeyNotFound):
            await change
    assert [name async for name in redis.scan_iter(f"{prefix}:*")] == []


async def test_a_request_makes_one_key(broker: Broker) -> None:
    request = Request("key", "content")
    record, _ = await broker.api_keys.create(new(), request)
    with pytest.raises(KeyMade) as caught:
        await broker.api_keys.create(new(), request)
    assert caught.value.facts["key_id"] == record.key_id
    with pytest.raises(IdempotencyConflict):
        await broker.api_keys.create(new(), Request("key", "other content"))
    assert [each.key_id for each in (await broker.api_keys.page("acme", None, 5)).keys] == [record.key_id]


async def test_of_the_same_request_at_the_same_time_one_is_told_the_secret(broker: Broker) -> None:
    request = Request("key", "content")
    made = await asyncio.gather(*(broker.api_keys.create(new(), request) for _ in range(5)), return_exceptions=True)
    told = [outcome[1] for outcome in made if isinstance(outcome, tuple)]
    assert sum(isinstance(outcome, KeyMade) for outcome in made) == 4
    (record,) = (await broker.api_keys.page("acme", None, 5)).keys
    assert [key.digest for key in told] == [record.digest]


async def test_a_request_that_died_halfway_makes_its_key_when_it_comes_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("key", "content")
    with monkeypatch.context() as patch, pytest.raises(TooManyKeys):
        patch.setattr(api_keys, "MOST_LIVE", 0)
        await broker.api_keys.create(new(), request)
    _, key = await broker.api_keys.create(new(), request)
    assert (await broker.api_keys.read(key.key_id)).digest == key.digest


async def test_a_tenant_has_room_for_so_many_good_keys(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_LIVE", 2)
    record, _ = await broker.api_keys.create(new())
    await broker.api_keys.create(new())
    with pytest.raises(TooManyKeys) as caught:
        await broker.api_keys.create(new())
    assert caught.value.facts["limit"] == 2
    await broker.api_keys.create(new("other"))
    await broker.api_keys.revoke(record.key_id)
    await broker.api_keys.create(new())


async def test_of_too_many_ended_keys_the_first_ones_are_forgotten(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "MOST_LIVE", 2)
    monkeypatch.setattr(api_keys, "MOST_KEPT", 4)
    monkeypatch.setattr(api_keys, "_BATCH", 1)
    live, _ = await broker.api_keys.create(new())
    ended = []
    for _ in range(4):
        record, _ = await broker.api_keys.create(new())
        ended.append((await broker.api_keys.revoke(record.key_id)).key_id)
    last, _ = await broker.api_keys.create(new())
    kept = {record.key_id for record in [r async for r in broker.api_keys._all_of("acme")]}
    assert kept == {live.key_id, *ended[2:], last.key_id}


async def test_whether_any_key_is_good(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "_BATCH", 2)
    assert not await broker.api_keys.any_is_live()
    made = [(await broker.api_keys.create(new(f"tenant-{at}")))[0] for at in range(5)]
    assert await broker.api_keys.any_is_live()
    for record in made:
        await broker.api_keys.revoke(record.key_id)
    assert not await broker.api_keys.any_is_live()


async def test_whether_somebody_else_may_manage_the_keys(broker: Broker) -> None:
    admin, _ = await broker.api_keys.create(new("acme", Scope.ADMIN))
    await broker.api_keys.create(new("acme", Scope.READ, Scope.SUBMIT, Scope.CANCEL))
    await broker.api_keys.create(new("other", Scope.ADMIN))
    gone, _ = await broker.api_keys.create(new("acme", Scope.ADMIN))
    await broker.api_keys.revoke(gone.key_id)
    assert not await broker.api_keys.has_other_admin(admin)
    await broker.api_keys.create(new("acme", Scope.ADMIN, expires_in=HOUR))
    assert await broker.api_keys.has_other_admin(admin)


def test_a_key_ends_at_the_first_of_its_ends() -> None:
    record = api_keys.KeyRecord(new_key_id(), "acme", "app", frozenset(), 0.0, expires_at=10.0, revoked_at=5.0)
    assert record.ended_at == 5.0
    assert api_keys.KeyRecord(new_key_id(), "acme", "app", frozenset(), 0.0).ended_at is None
    assert ApiKey.draw(record.key_id) != ApiKey.draw(record.key_id)
