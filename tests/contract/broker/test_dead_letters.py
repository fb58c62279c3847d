"""Dead letters: a failed task is on the list until it is requeued or dropped, and never again."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Enqueued, TaskRef
from tailplane.broker.catalogue import requeue_request
from tailplane.protocol.errors import QueueFull
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import TaskId
from tailplane.protocol.states import State, Trigger

from .conftest import Deployment, new_task

TENANT = "default"
HOUR = timedelta(hours=1)
KEPT = timedelta(days=3)


@pytest.fixture
def broker(redis: Redis, prefix: str) -> Broker:
    return Broker.over(redis, prefix=prefix, retention=HOUR, start_within=HOUR, dead_letter_retention=KEPT)


@pytest.fixture
async def dead(deployment: Deployment) -> TaskRef:
    """A failed task that is on the list."""
    begun = await deployment.begin()
    await deployment.finish(begun, Trigger.FAIL)
    await deployment.broker.catalogue.note_dead(begun.record.ref)
    return begun.record.ref


async def listed(broker: Broker) -> list[TaskId]:
    return await broker.catalogue.dead_letter_ids(TENANT, None, 100)


async def requeue(deployment: Deployment, dead: TaskRef, limit: int | None = None) -> Enqueued:
    """Queue a new task in the place of a dead one."""
    task = await deployment.create(requeue_of=dead.task_id)
    request = requeue_request(dead.task_id, KEPT)
    return await deployment.broker.queue.enqueue(task, "echo", request=request, limit=limit, requeue_of=dead.task_id)


async def test_the_list_is_newest_first_and_in_pages(broker: Broker) -> None:
    tasks = [new_task().ref for _ in range(5)]
    for task in tasks:
        await broker.catalogue.note_dead(task)
        await broker.catalogue.note_dead(task)
    ids = sorted((task.task_id for task in tasks), reverse=True)
    assert await listed(broker) == ids
    assert await broker.catalogue.dead_letter_ids(TENANT, ids[1], 2) == ids[2:4]
    assert await broker.catalogue.oldest_dead_letter_ids(TENANT, ids[3], 2) == [ids[2], ids[1]]
    await broker.catalogue.forget_dead(TENANT, ids[:2])
    assert await listed(broker) == ids[2:]


async def test_the_list_is_one_tenant_s(broker: Broker) -> None:
    await broker.catalogue.note_dead(TaskRef(new_task().ref.task_id, "other"))
    assert await listed(broker) == []


async def test_a_failed_task_is_kept_longer(deployment: Deployment) -> None:
    by_attempt = await deployment.begin()
    await deployment.finish(by_attempt, Trigger.FAIL)
    from_outside = await deployment.create()
    await deployment.broker.tasks.end(from_outside, Trigger.FAIL, 0, PlatformType.FAILED, {"error": {}})
    for task in (by_attempt.record.ref, from_outside):
        assert (await deployment.record(task)).state is State.FAILED
        for left in await deployment.ttl_ms(task):
            assert 0 <= KEPT / timedelta(milliseconds=1) - left < 60_000


async def test_other_tasks_are_kept_as_ever(deployment: Deployment, broker: Broker) -> None:
    succeeded = await deployment.begin()
    await deployment.finish(succeeded)
    cancelled = await deployment.create()
    await deployment.cancel(cancelled, 0)
    for task in (succeeded.record.ref, cancelled):
        for left in await deployment.ttl_ms(task):
            assert 0 <= HOUR / timedelta(milliseconds=1) - left < 60_000


async def test_a_failed_task_is_never_kept_shorter_than_others(redis: Redis) -> None:
    day = timedelta(days=1)
    for given in ({}, {"dead_letter_retention": HOUR}):
        broker = Broker.over(redis, prefix="p", retention=day, start_within=HOUR, **given)
        assert broker.tasks.dead_letter_retention == day


async def test_a_requeued_one_leaves_the_list_for_good(deployment: Deployment, broker: Broker, dead: TaskRef) -> None:
    made = await requeue(deployment, dead)
    assert await listed(broker) == []
    assert (await deployment.record(TaskRef(made.task_id))).requeue_of == dead.task_id
    (queued,) = await deployment.events(TaskRef(made.task_id))
    assert queued.data == {"workflow": "echo", "version": "7", "requeue_of": dead.task_id}
    # A worker that died after it had ended the task: whoever gets the claim next notes it again.
    await broker.catalogue.note_dead(dead)
    assert await listed(broker) == []


async def test_requeued_again_it_is_the_same_task(deployment: Deployment, broker: Broker, dead: TaskRef) -> None:
    made = await asyncio.gather(*(requeue(deployment, dead) for _ in range(10)))
    assert len({each.task_id for each in made}) == 1
    assert await broker.queue.depth("echo") == 1
    left = await broker.redis.pttl(broker.keys.request(TENANT, dead.task_id))
    assert 0 <= KEPT / timedelta(milliseconds=1) - left < 60_000


async def test_a_full_queue_leaves_it_on_the_list(deployment: Deployment, broker: Broker, dead: TaskRef) -> None:
    await deployment.enqueue()
    with pytest.raises(QueueFull):
        await requeue(deployment, dead, limit=1)
    assert await listed(broker) == [dead.task_id]
    assert (await requeue(deployment, dead, limit=2)).depth == 2


async def test_a_dropped_one_leaves_the_list_for_good(deployment: Deployment, broker: Broker, dead: TaskRef) -> None:
    assert await broker.catalogue.drop_dead(dead, KEPT)
    assert await listed(broker) == []
    await broker.catalogue.note_dead(dead)
    assert await listed(broker) == []
    assert await broker.catalogue.drop_dead(dead, KEPT)
    left = await broker.redis.pttl(broker.keys.request(TENANT, dead.task_id))
    assert 0 <= KEPT / timedelta(milliseconds=1) - left < 60_000
    # Whoever asks to requeue it is told that another request came before.
    assert (await requeue(deployment, dead)).content != requeue_request(dead.task_id, KEPT).content
    assert await broker.queue.depth("echo") == 0


async def test_a_requeued_one_is_not_dropped(deployment: Deployment, broker: Broker, dead: TaskRef) -> None:
    made = await requeue(deployment, dead)
    assert not await broker.catalogue.drop_dead(dead, KEPT)
    assert (await requeue(deployment, dead)).task_id == made.task_id


async def test_of_a_drop_and_a_requeue_at_once_one_is_done(
    deployment: Deployment, broker: Broker, dead: TaskRef
) -> None:
    dropped, made = await asyncio.gather(broker.catalogue.drop_dead(dead, KEPT), requeue(deployment, dead))
    assert dropped == (made.depth is None)
    assert await broker.queue.depth("echo") == (not dropped)
    assert await listed(broker) == []
