"""A worker hears which of its tasks are cancelled."""

import asyncio

from redis.asyncio import Redis

from tailplane.broker import Broker, TaskRef
from tailplane.protocol.ids import new_task_id, new_worker_id
from tailplane.workers import control

from .conftest import PATIENCE


async def test_it_hears_of_its_own_tasks_with_the_reason(broker: Broker, redis: Redis) -> None:
    me, other = new_worker_id(), new_worker_id()
    heard: asyncio.Queue[tuple[TaskRef, str | None]] = asyncio.Queue()
    told: list[TaskRef] = []
    listening = asyncio.ensure_future(
        control.listen(broker, me, lambda task, reason: heard.put_nowait((task, reason)), told.append)
    )
    channel = broker.keys.control(me)
    async with asyncio.timeout(PATIENCE):
        while dict(await redis.pubsub_numsub(channel))[channel.encode()] == 0:
            await asyncio.sleep(0.002)
    mine, theirs = TaskRef(new_task_id()), TaskRef(new_task_id(), "team-7")
    await broker.queue.tell_cancel(other, theirs, "not for me")
    await broker.queue.tell_message(me, theirs)
    await broker.queue.tell_cancel(me, mine, None)
    await broker.queue.tell_cancel(me, theirs, "enough")
    async with asyncio.timeout(PATIENCE):
        assert await heard.get() == (mine, None)
        assert await heard.get() == (theirs, "enough")
    assert told == [theirs]
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_a_message_that_is_nonsense_is_dropped(broker: Broker) -> None:
    heard: asyncio.Queue[tuple[TaskRef, str | None]] = asyncio.Queue()
    worker, task = new_worker_id(), TaskRef(new_task_id())
    listening = asyncio.ensure_future(
        control.listen(broker, worker, lambda task, why: heard.put_nowait((task, why)), lambda task: None)
    )
    channel = broker.keys.control(worker)
    async with asyncio.timeout(PATIENCE):
        while not await broker.redis.publish(channel, b"\xc1"):
            await asyncio.sleep(0.01)
        for nonsense in (b"", b"\x01", b"\x92\x01\x02", b"\x91\xa1x", b"\x93\xa1x\xc0\xa1y"):
            await broker.redis.publish(channel, nonsense)
        await broker.queue.tell_cancel(worker, task, "enough")
        assert await heard.get() == (task, "enough")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
