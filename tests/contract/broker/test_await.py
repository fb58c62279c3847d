"""await.lua: who waits for the end of a task is told of it, however it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, TaskRef
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.ids import new_task_id
from tailplane.protocol.states import State, Trigger

from .conftest import Deployment

PATIENCE = 5


@asynccontextmanager
async def hearing(redis: Redis, *channels: str) -> AsyncIterator["asyncio.Queue[tuple[str, str]]"]:
    """Give what comes over the channels, as (channel, message)."""
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(*channels)
        for _ in channels:
            await pubsub.get_message(timeout=PATIENCE)

        async def listen() -> None:
            async for message in pubsub.listen():
                heard.put_nowait((message["channel"].decode(), message["data"].decode()))

        listening = asyncio.ensure_future(listen())
        yield heard
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def said(heard: "asyncio.Queue[tuple[str, str]]") -> tuple[str, str]:
    return await asyncio.wait_for(heard.get(), PATIENCE)


async def test_the_record_of_an_ended_task_comes_at_once(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    assert await broker.tasks.wait_for(task, "ends") is None
    begun = await deployment.begin(task)
    assert await broker.tasks.wait_for(task, "ends") is None
    await deployment.finish(begun)
    assert await broker.tasks.wait_for(task, "ends") == await deployment.record(task)


async def test_who_waits_for_nothing_is_told_so(broker: Broker, redis: Redis) -> None:
    task = TaskRef(new_task_id())
    with pytest.raises(TaskNotFound):
        await broker.tasks.wait_for(task, "ends")
    assert not await redis.exists(broker.keys.task(task))


@pytest.mark.parametrize("trigger", [Trigger.SUCCEED, Trigger.FAIL, Trigger.CANCEL])
async def test_an_end_is_told_to_who_waits(
    deployment: Deployment, broker: Broker, redis: Redis, trigger: Trigger, prefix: str
) -> None:
    task = await deployment.create()
    async with hearing(redis, f"{prefix}:one", f"{prefix}:two") as heard:
        await broker.tasks.wait_for(task, f"{prefix}:one")
        begun = await deployment.begin(task)
        for _ in range(2):
            await broker.tasks.wait_for(task, f"{prefix}:two")
        await deployment.finish(begun, trigger)
        key = broker.keys.task(task)
        assert sorted([await said(heard), await said(heard)]) == [(f"{prefix}:one", key), (f"{prefix}:two", key)]
        ended = await broker.tasks.wait_for(task, f"{prefix}:one")
        assert ended == await deployment.record(task)
        await redis.publish(f"{prefix}:one", "last")
        assert await said(heard) == (f"{prefix}:one", "last")


async def test_an_end_from_outside_is_told_too(
    deployment: Deployment, broker: Broker, redis: Redis, prefix: str
) -> None:
    task = await deployment.create()
    async with hearing(redis, prefix) as heard:
        await broker.tasks.wait_for(task, prefix)
        assert await deployment.cancel(task, 0) is State.CANCELLED
        assert await said(heard) == (prefix, broker.keys.task(task))


async def test_who_waits_from_the_beginning_is_told(
    deployment: Deployment, broker: Broker, redis: Redis, prefix: str
) -> None:
    task = await deployment.create(waiting=prefix)
    async with hearing(redis, prefix) as heard:
        await deployment.finish(await deployment.begin(task))
        assert await said(heard) == (prefix, broker.keys.task(task))


async def test_a_task_that_goes_back_to_the_queue_has_not_ended(
    deployment: Deployment, broker: Broker, redis: Redis, prefix: str
) -> None:
    task = await deployment.create()
    async with hearing(redis, prefix) as heard:
        await broker.tasks.wait_for(task, prefix)
        await deployment.finish(await deployment.begin(task), Trigger.RETRY)
        await redis.publish(prefix, "between")
        await deployment.finish(await deployment.begin(task), Trigger.SUCCEED)
        assert [await said(heard), await said(heard)] == [(prefix, "between"), (prefix, broker.keys.task(task))]


async def test_those_who_asked_last_are_told(deployment: Deployment, broker: Broker, redis: Redis, prefix: str) -> None:
    task = await deployment.create()
    channels = [f"{prefix}:{number}" for number in range(6)]
    async with hearing(redis, *channels) as heard:
        for channel in channels:
            await broker.tasks.wait_for(task, channel)
        await deployment.finish(await deployment.begin(task))
        assert sorted([(await said(heard))[0] for _ in range(4)]) == channels[2:]
        assert heard.empty()


async def test_waiting_keeps_nothing_alive(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    before, _ = await deployment.ttl_ms(task)
    await broker.tasks.wait_for(task, "ends")
    after, _ = await deployment.ttl_ms(task)
    assert 0 < after <= before
