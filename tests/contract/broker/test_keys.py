"""Keys: each is documented with its type, has the TTL that the table in keys.py says, and is its deployment's own."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Keys, Request, SessionRef, TaskRef, TenantRecord, Terms, keys
from tailplane.broker.api_keys import NewKey
from tailplane.broker.revoked_tokens import Revoked
from tailplane.broker.usage import Rate
from tailplane.protocol.credentials import new_token_id
from tailplane.protocol.errors import InvalidId
from tailplane.protocol.ids import new_session_id, new_task_id, new_worker_id
from tailplane.protocol.priorities import Priority
from tailplane.protocol.scopes import Scope
from tailplane.protocol.states import Trigger

from .conftest import LAPSED, Deployment, append, closing, every

TENANT = "default"

TABLE_ROW = re.compile(r"    (<prefix>:\S+) +(hash|stream|zset|list|string|channel) +(.*)")


def documented() -> dict[str, tuple[re.Pattern[str], str, str]]:
    """Return the table of keys.py: of each template its pattern, type and what it begins to say of the TTL."""
    table = {}
    for line in (keys.__doc__ or "").splitlines():
        if match := TABLE_ROW.match(line):
            template, kind, ttl = match.groups()
            pattern = "".join(
                "[^:]+" if part.startswith("<") else re.escape(part) for part in re.split(r"(<[a-z]+>)", template)
            )
            table[template] = (re.compile(pattern), kind, ttl)
    return table


async def live(deployment: Deployment) -> None:
    """Do all that a deployment does, and leave something of each kind behind."""
    broker = deployment.broker
    session = (await broker.catalogue.create_session(TENANT, {}, Request("session-key", "content"))).session_id
    await deployment.register()
    for ending in (Trigger.SUCCEED, Trigger.RETRY, Trigger.HAND_BACK, None):
        task = await deployment.create()
        await broker.queue.enqueue(task, "echo", session=session, request=Request(f"key-{ending}", "content"))
        await deployment.claim()
        begun = await deployment.begin(task)
        await broker.log.append([append(begun, "x")])
        if ending:
            await broker.tasks.finish(task, closing(begun, ending, after=begun.seq + 1))
    parked = await deployment.enqueue()
    (claim,) = await deployment.claim()
    await broker.tasks.finish(parked, closing(await deployment.begin(parked), Trigger.WAIT))
    await broker.parking.park(deployment.worker, claim, None)
    await broker.states.set(SessionRef(session, TENANT), "key", b"\xc0", None, "call")
    cancelled = await deployment.enqueue()
    await deployment.cancel(cancelled, 0)
    await deployment.enqueue(due=600)
    for priority in Priority:
        await deployment.enqueue(terms=Terms(priority, "key"))
    await deployment.claim(echo=1)
    await deployment.enqueue(terms=Terms(Priority.HIGH, "key"))
    await deployment.enqueue(terms=Terms(Priority.LOW))
    await broker.catalogue.note_gone(TENANT, [cancelled.task_id])
    for _ in range(2):
        dead = await deployment.create()
        await broker.catalogue.note_dead(dead)
    await broker.catalogue.drop_dead(dead, timedelta(days=7))
    await broker.revoked_tokens.add(Revoked(TENANT, new_token_id(None)))
    await broker.schedules.put(TENANT, "hourly", every(3600), 3600_000, 0)
    await broker.api_keys.create(NewKey(tenant=TENANT, name="key", scopes=frozenset({Scope.READ})))
    await broker.tenants.set_limits(TenantRecord("acme", weight=2))
    await broker.usage.take_submit(TENANT, [Rate(TENANT, 0.1)], None)
    await broker.usage.tell_readers("here", {TENANT: 1})
    await broker.usage.note_stored({TENANT: 1})


async def found(redis: Redis, prefix: str) -> AsyncIterator[tuple[str, str, int]]:
    """Yield each key of a deployment with its type and TTL in ms."""
    async for key in redis.scan_iter(f"{prefix}:*", count=1000):
        yield key.decode(), (await redis.type(key)).decode(), await redis.pttl(key)


async def test_every_key_is_documented_with_its_type(deployment: Deployment, redis: Redis) -> None:
    await live(deployment)
    table, seen = documented(), set()
    async for key, kind, _ in found(redis, deployment.broker.keys.prefix):
        rows = [(template, row[1]) for template, row in table.items() if row[0].fullmatch(key)]
        assert [row[1] for row in rows] == [kind], key
        seen.add(rows[0][0])
    # Channels are no keys; everything else of the table was seen.
    assert seen == {template for template, row in table.items() if row[1] != "channel"}


async def test_every_key_has_a_ttl_unless_the_table_says_none(deployment: Deployment, redis: Redis) -> None:
    await live(deployment)
    table = documented()
    async for key, _, ttl in found(redis, deployment.broker.keys.prefix):
        (said,) = [row[2] for row in table.values() if row[0].fullmatch(key)]
        if ":task:" in key or ":stream:" in key:
            continue
        assert (ttl == -1) == said.startswith("none"), key


async def test_records_and_streams_have_a_ttl_unless_the_task_is_in_hand(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    await live(deployment)
    for task_id in await broker.catalogue.task_ids(TENANT, None, None, 100):
        task = TaskRef(task_id)
        record = await deployment.record(task)
        in_hand = not record.state.is_terminal and record.attempt > 0
        assert [left == -1 for left in await deployment.ttl_ms(task)] == [in_hand] * 2, record


async def test_a_worker_that_left_leaves_nothing_of_its_own(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    await live(deployment)
    await broker.queue.reap(deployment.worker, leaves=True)
    assert [key async for key, _, _ in found(redis, broker.keys.prefix) if deployment.worker in key] == []
    assert await redis.zcard(broker.keys.workers) == 0


async def test_all_keys_of_a_task_lie_on_one_slot_and_those_of_the_queue_on_another(deployment: Deployment) -> None:
    broker = deployment.broker
    await live(deployment)
    tags: dict[str, set[str]] = {}
    async for key, _, _ in found(broker.redis, broker.keys.prefix):
        (tag,) = re.findall(r"\{(.*?)\}", key)
        tags.setdefault("queue" if tag == "queue" else "task", set()).add(tag)
        assert tag == "queue" or tag in key.rpartition(":")[2]
    assert tags["queue"] == {"queue"}
    task = TaskRef(new_task_id())
    assert {f"{{{task.task_id}}}"} == {
        key.rpartition(":")[2] for key in (broker.keys.task(task), broker.keys.stream(task), broker.keys.bell(task))
    }


async def test_deployments_on_one_server_never_mix(broker: Broker, redis: Redis, prefix: str) -> None:
    # One prefix begins with the other: the nastiest neighbours.
    here = Deployment(broker)
    over = Broker.over(redis, prefix=f"{prefix}-2", retention=timedelta(hours=1), start_within=timedelta(hours=1))
    there = Deployment(over)
    await live(here)
    before = {row async for row in _dump(redis, prefix)}
    await live(there)
    await there.register(lease=LAPSED)
    assert await over.queue.lapsed() == [there.worker]
    assert await broker.queue.lapsed() == []
    assert [worker.worker_id for worker in await broker.queue.workers()] == [here.worker]
    assert await broker.queue.reap(there.worker) == 0
    assert set(await broker.catalogue.task_ids(TENANT, None, None, 99)).isdisjoint(
        await over.catalogue.task_ids(TENANT, None, None, 99)
    )
    request = Request("same-key", "content")
    mine, theirs = await here.create(), await there.create()
    assert (await broker.queue.enqueue(mine, "x", request=request)).task_id == mine.task_id
    assert (await over.queue.enqueue(theirs, "x", request=request)).task_id == theirs.task_id
    await broker.queue.withdraw(mine, "x", None)
    await broker.tasks.discard(mine)
    await redis.zrem(broker.keys.tasks(TENANT), mine.task_id)
    await redis.delete(broker.keys.request(TENANT, "same-key"), broker.keys.doorbell("x"))
    assert {row async for row in _dump(redis, prefix)} == before


async def _dump(redis: Redis, prefix: str) -> AsyncIterator[tuple[bytes, bytes]]:
    async for key in redis.scan_iter(f"{prefix}:*", count=1000):
        yield key, await redis.dump(key)


@pytest.mark.parametrize("prefix", ["", "a:b", "a b", "{a}", "a" * 65, "ä", "a\n", "*"])
def test_a_prefix_that_would_break_keys_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="is no key prefix"):
        Keys(prefix)


@pytest.mark.parametrize("tenant", ["", "a:b", "{queue}", "A"])
def test_a_tenant_that_would_break_keys_is_refused(tenant: str) -> None:
    session = new_session_id()
    for make in (
        lambda: Keys().tasks(tenant),
        lambda: Keys().gone(tenant),
        lambda: Keys().dead(tenant),
        lambda: Keys().request(tenant, "d"),
        lambda: Keys().schedule(tenant, "s"),
        lambda: Keys().schedules(tenant),
        lambda: Keys().schedules_due(tenant),
        lambda: Keys().session(tenant, session),
        lambda: Keys().session_tasks(tenant, session),
        lambda: Keys().session_joins(tenant, session),
        lambda: Keys().session_state(tenant, session),
        lambda: Keys().joined(tenant, session),
    ):
        with pytest.raises(InvalidId):
            make()


def test_a_task_is_found_again_by_its_member_of_the_queue() -> None:
    task = TaskRef(new_task_id(), "team-7")
    assert TaskRef.from_member(task.member.encode()) == task


def test_workers_have_keys_of_their_own() -> None:
    one, two = new_worker_id(), new_worker_id()
    for make in (Keys().worker, Keys().running, Keys().control):
        assert make(one) != make(two)
