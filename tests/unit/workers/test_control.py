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
    listening = asyncio.ensure_future(control.listen(broker, me, lambda task, reason: heard.put_nowait((task, reason))))
    channel = broker.keys.control(me)
    async with asyncio.timeout(PATIENCE):
        while dict(await redis.pubsub_numsub(channel))[channel.encode()] == 0:
            await asyncio.sleep(0.002)
    mine, theirs = TaskRef(new_task_id()), TaskRef(new_task_id(), "team-7")
    await broker.queue.tell_cancel(other, theirs, "not for me")
    await broker.queue.tell_cancel(me, mine, None)
    await broker.queue.tell_cancel(me, theirs, "enough")
    async with asyncio.timeout(PATIENCE):
        assert await heard.get() == (mine, None)
        assert await heard.get() == (theirs, "enough")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
