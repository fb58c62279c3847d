import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
import structlog

from tailplane.broker import Broker, NewTask, TaskRef, WorkerRecord
from tailplane.control_plane.fleet import FleetMinder
from tailplane.control_plane.queue import TaskQueue, open_queue
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol import codec
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import WorkerId, new_task_id, new_worker_id

MINUTE = timedelta(minutes=1)
OFTEN = timedelta(milliseconds=5)
AT_ONCE = timedelta()


async def worker_with_task(broker: Broker, queue: TaskQueue) -> tuple[WorkerId, TaskRef]:
    worker, task = new_worker_id(), TaskRef(new_task_id())
    await broker.queue.register(WorkerRecord(worker, "h", 1, "0", ["a"], 1, 0), [], MINUTE)
    await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
    await queue.enqueue_job("a", _job_id=task.member)
    await broker.queue.claim(worker, 1, {"a": 1})
    return worker, task


async def end_lease(broker: Broker, worker: WorkerId) -> None:
    await broker.redis.zadd(broker.keys.workers, {worker: 1})


async def test_the_tasks_of_a_lost_worker_are_given_back(broker: Broker, queue: TaskQueue) -> None:
    lost, task = await worker_with_task(broker, queue)
    healthy, _ = await worker_with_task(broker, queue)
    await end_lease(broker, lost)

    assert await FleetMinder(broker.queue, trust_after=AT_ONCE).mind() == 1

    assert [worker.worker_id for worker in await broker.queue.workers()] == [healthy]
    assert [claim.task for claim in (await broker.queue.claim(healthy, 1, {"a": 1})).taken] == [task]


async def test_with_all_leases_alive_nothing_happens(broker: Broker, queue: TaskQueue) -> None:
    await worker_with_task(broker, queue)

    assert await FleetMinder(broker.queue, trust_after=AT_ONCE).mind() == 0


async def test_several_minders_at_once_do_no_harm(broker: Broker, queue: TaskQueue) -> None:
    lost, _ = await worker_with_task(broker, queue)
    await end_lease(broker, lost)

    returned = await asyncio.gather(*(FleetMinder(broker.queue, trust_after=AT_ONCE).mind() for _ in range(10)))

    assert sum(returned) == 1
    assert await broker.redis.zcard(broker.keys.due("a")) == 1


async def test_another_connection_may_lead_to_a_server_with_stale_leases(broker: Broker, queue: TaskQueue) -> None:
    lost, _ = await worker_with_task(broker, queue)
    await end_lease(broker, lost)
    seconds = 100.0
    minder = FleetMinder(broker.queue, trust_after=timedelta(seconds=5), clock=lambda: seconds)
    assert await minder.mind() == 0
    seconds += 6
    # Between two looks, so that no call fails.
    broker.queue.wire.abandon()
    assert await minder.mind() == 0
    seconds += 6
    assert await minder.mind() == 1


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


async def test_redis_may_come_and_go(own_valkey: EmbeddedServer) -> None:
    async with open_queue(own_valkey.url, "test") as queue:
        broker = Broker.over(queue, prefix="test", retention=MINUTE, start_within=MINUTE)
        own_valkey.kill()
        with structlog.testing.capture_logs() as logged:
            minding = asyncio.create_task(FleetMinder(broker.queue, OFTEN, trust_after=AT_ONCE).run())

            async def logs(event: str) -> None:
                async with asyncio.timeout(30):
                    while event not in [entry["event"] for entry in logged]:
                        await asyncio.wait({minding}, timeout=0.01)

            await logs("Redis is away")
            own_valkey.start()
            await logs("Redis is back")
            lost, _ = await worker_with_task(broker, queue)
            await end_lease(broker, lost)
            await logs("worker lost, its tasks were given back")
            minding.cancel()

    # Each said once, however often it was tried.
    assert len(logged) == 3


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_stale_lease_is_believed_only_after_the_store_was_steady(broker: Broker, queue: TaskQueue) -> None:
    clock = Clock()
    minder = FleetMinder(broker.queue, trust_after=timedelta(seconds=5), clock=clock)
    lost, _ = await worker_with_task(broker, queue)
    await end_lease(broker, lost)

    assert await minder.mind() == 0
    clock.now += 4.9
    assert await minder.mind() == 0
    clock.now += 0.2
    assert await minder.mind() == 1


async def test_a_store_that_was_away_is_not_believed_at_once(own_valkey: EmbeddedServer) -> None:
    async with open_queue(own_valkey.url, "test") as queue:
        broker = Broker.over(queue, prefix="test", retention=MINUTE, start_within=MINUTE)
        clock = Clock()
        minder = FleetMinder(broker.queue, trust_after=timedelta(seconds=5), clock=clock)
        await minder.mind()
        clock.now += 60
        own_valkey.kill()
        with pytest.raises(StoreUnavailable):
            await minder.mind()
        own_valkey.start()
        living, _ = await worker_with_task(broker, queue)
        await end_lease(broker, living)
        assert await minder.mind() == 0
        # As a living worker does once the store is back.
        await broker.queue.renew(living, MINUTE)
        clock.now += 60
        assert await minder.mind() == 0
