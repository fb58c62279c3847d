"""Sessions, and which tasks there are."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Request, TaskRef
from tailplane.broker.catalogue import GONE_MEMORY_MS
from tailplane.protocol.errors import IdempotencyConflict, SessionNotFound, StoreUnavailable
from tailplane.protocol.ids import TaskId, new_session_id, new_task_id

from .conftest import Deployment

TENANT = "default"


async def test_a_session_is_kept_as_it_was_made(broker: Broker, redis: Redis) -> None:
    made = await broker.catalogue.create_session(TENANT, {"user": "a"})
    assert (made.tenant, made.closed, made.metadata) == (TENANT, False, {"user": "a"})
    assert await broker.catalogue.session(TENANT, made.session_id) == made
    assert 0 < await redis.pttl(broker.keys.session(TENANT, made.session_id)) <= 24 * 3_600_000


async def test_a_session_that_is_not_there_is_told_so(broker: Broker, redis: Redis) -> None:
    session = new_session_id()
    for call in (broker.catalogue.session, broker.catalogue.close_session):
        with pytest.raises(SessionNotFound) as caught:
            await call(TENANT, session)
        assert caught.value.facts == {"session_id": session}
    assert await redis.exists(broker.keys.session(TENANT, session)) == 0


async def test_a_session_of_another_tenant_is_not_there(broker: Broker) -> None:
    made = await broker.catalogue.create_session("other", {})
    with pytest.raises(SessionNotFound):
        await broker.catalogue.session(TENANT, made.session_id)


async def test_a_closed_session_stays_closed(broker: Broker) -> None:
    made = await broker.catalogue.create_session(TENANT, {"user": "a"}, Request("key", "content"))
    for _ in range(2):
        closed = await broker.catalogue.close_session(TENANT, made.session_id)
        assert (closed.session_id, closed.closed, closed.metadata) == (made.session_id, True, {"user": "a"})
    assert (await broker.catalogue.session(TENANT, made.session_id)).closed
    again = await broker.catalogue.create_session(TENANT, {"user": "a"}, Request("key", "content"))
    assert again.closed


async def test_the_same_request_makes_one_session(broker: Broker) -> None:
    request = Request("key", "content")
    made = await asyncio.gather(*(broker.catalogue.create_session(TENANT, {"n": "1"}, request) for _ in range(10)))
    assert len({session.session_id for session in made}) == 1
    assert made == [made[0]] * 10


async def test_another_request_with_that_key_is_a_conflict(broker: Broker) -> None:
    await broker.catalogue.create_session(TENANT, {}, Request("key", "one"))
    with pytest.raises(IdempotencyConflict):
        await broker.catalogue.create_session(TENANT, {}, Request("key", "two"))


async def test_without_a_key_each_request_makes_a_session(broker: Broker) -> None:
    assert len({(await broker.catalogue.create_session(TENANT, {})).session_id for _ in range(5)}) == 5


async def test_a_request_whose_reply_was_lost_makes_one_session(
    broker: Broker, lossy_broker: Broker, lose_next_reply: Callable[[], None], redis: Redis
) -> None:
    request = Request("key", "content")
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await lossy_broker.catalogue.create_session(TENANT, {"n": "1"}, request)
    made = await lossy_broker.catalogue.create_session(TENANT, {"n": "1"}, request)
    assert await broker.catalogue.session(TENANT, made.session_id) == made
    keys = [key async for key in redis.scan_iter(f"{broker.keys.prefix}:*:session:*")]
    assert len(keys) == 1


async def fill(deployment: Deployment, count: int) -> list[TaskId]:
    """Queue tasks; return their ids, newest first."""
    return sorted([(await deployment.enqueue()).task_id for _ in range(count)], reverse=True)


async def test_tasks_are_listed_newest_first(deployment: Deployment, broker: Broker) -> None:
    tasks = await fill(deployment, 5)
    assert await broker.catalogue.task_ids(TENANT, None, None, 10) == tasks
    assert await broker.catalogue.task_ids(TENANT, None, None, 2) == tasks[:2]
    assert await broker.catalogue.task_ids("other", None, None, 10) == []


async def test_pages_stay_where_they_are_while_tasks_come_in(deployment: Deployment, broker: Broker) -> None:
    tasks = await fill(deployment, 10)
    # Ids of one millisecond have no order: what comes in meanwhile is of a later one.
    await asyncio.sleep(0.005)
    pages: list[TaskId] = []
    before: TaskId | None = None
    while page := await broker.catalogue.task_ids(TENANT, None, before, 3):
        pages += page
        before = page[-1]
        await deployment.enqueue()
    assert pages == tasks


async def test_the_tasks_of_a_session_are_listed_apart(deployment: Deployment, broker: Broker) -> None:
    session = (await broker.catalogue.create_session(TENANT, {})).session_id
    others = await fill(deployment, 2)
    mine = await deployment.create()
    await broker.queue.enqueue(mine, "echo", session=session)
    assert await broker.catalogue.task_ids(TENANT, session, None, 10) == [mine.task_id]
    assert await broker.catalogue.task_ids(TENANT, None, None, 10) == sorted([*others, mine.task_id], reverse=True)


async def test_a_task_that_is_gone_is_known_but_not_listed(deployment: Deployment, broker: Broker) -> None:
    session = (await broker.catalogue.create_session(TENANT, {})).session_id
    gone, kept = await deployment.create(), await deployment.create()
    for task in (gone, kept):
        await broker.queue.enqueue(task, "echo", session=session)
    await broker.tasks.discard(gone)
    assert await broker.catalogue.was_here(gone)
    await broker.catalogue.note_gone(TENANT, [gone.task_id], session)
    assert await broker.catalogue.was_here(gone)
    assert await broker.catalogue.task_ids(TENANT, None, None, 10) == [kept.task_id]
    assert await broker.catalogue.task_ids(TENANT, session, None, 10) == [kept.task_id]


async def test_a_task_that_never_was_is_unknown(broker: Broker) -> None:
    task = TaskRef(new_task_id())
    assert not await broker.catalogue.was_here(task)
    await broker.catalogue.note_gone("other", [task.task_id])
    assert not await broker.catalogue.was_here(task)


async def test_what_is_long_gone_is_forgotten(broker: Broker, redis: Redis) -> None:
    old, new = new_task_id(), new_task_id()
    await broker.catalogue.note_gone(TENANT, [old])
    await redis.zincrby(broker.keys.gone(TENANT), -GONE_MEMORY_MS - 60_000, old)
    await broker.catalogue.note_gone(TENANT, [new])
    assert not await broker.catalogue.was_here(TaskRef(old))
    assert await broker.catalogue.was_here(TaskRef(new))
