"""The lease of a worker process: kept, lost, and what it finds out about the tasks it believes to hold."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import structlog
from redis.asyncio import Redis

from tailplane.broker import Broker, Claim, NewTask, TaskRef, WorkerRecord
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import new_task_id, new_worker_id
from tailplane.workers.lease import Lease

from .conftest import LEASE, PATIENCE

EVERY = timedelta(milliseconds=5)


@dataclass
class Holder:
    """A worker with a lease, and what the lease has told it."""

    broker: Broker
    running: set[TaskRef] = field(default_factory=set)
    lost: list[set[TaskRef]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record = WorkerRecord(new_worker_id(), "host-1", 1, "0", ["flow"], 10, started_at=0)
        self.lease = Lease(
            self.broker.queue,
            self.record,
            [],
            length=LEASE,
            renew_every=EVERY,
            running=lambda: set(self.running),
            on_lost=self._lose,
        )

    def _lose(self, tasks: set[TaskRef]) -> None:
        self.lost.append(tasks)
        self.running -= tasks

    async def enqueue(self) -> TaskRef:
        task = TaskRef(new_task_id())
        await self.broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
        await self.broker.queue.enqueue(task, "flow")
        return task

    async def claim(self, *, run: bool = True) -> TaskRef:
        """Claim a new task, and run it unless its attempt never began."""
        await self.enqueue()
        (claim,) = (await self.broker.queue.claim(self.record.worker_id, 1, {"flow": 1})).taken
        if run:
            self.running.add(claim.task)
        return claim.task

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.002)

    async def renewals(self, count: int) -> None:
        """Return after so many more renewals: each sets the lease anew."""
        for _ in range(count):
            before = await self._ends_at()
            async with asyncio.timeout(PATIENCE):
                while await self._ends_at() == before:
                    await asyncio.sleep(0.001)

    async def _ends_at(self) -> float | None:
        score: float | None = await self.broker.redis.zscore(self.broker.keys.workers, self.record.worker_id)
        return score

    async def due(self) -> set[TaskRef]:
        members = await self.broker.redis.zrange(self.broker.keys.due("flow"), 0, -1)
        return {TaskRef.from_member(member) for member in members}


@pytest.fixture
def holder(broker: Broker) -> Holder:
    return Holder(broker)


@pytest.fixture
async def kept(holder: Holder) -> AsyncIterator[Holder]:
    """A worker that is registered and renews its lease."""
    await holder.lease.begin()
    keeping = asyncio.ensure_future(holder.lease.keep())
    yield holder
    assert not keeping.done(), "the lease's keeper broke off"
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_lease_begins_with_the_worker_s_registration(holder: Holder, broker: Broker) -> None:
    await holder.lease.begin()
    (worker,) = await broker.queue.workers()
    assert worker.worker_id == holder.record.worker_id
    assert worker.lease_ms > 0


async def test_a_kept_lease_does_not_run_out(kept: Holder, broker: Broker) -> None:
    before = (await broker.queue.workers())[0].lease_ms
    await broker.queue.renew(kept.record.worker_id, timedelta(seconds=1))
    await kept.renewals(2)
    assert (await broker.queue.workers())[0].lease_ms > before - 60_000
    assert kept.lost == []


async def test_who_was_struck_off_loses_all_it_ran_and_begins_anew(kept: Holder, broker: Broker) -> None:
    tasks = {await kept.claim() for _ in range(3)}
    with structlog.testing.capture_logs() as logs:
        assert await broker.queue.reap(kept.record.worker_id, leaves=True) == 3
        await kept.until(lambda: bool(kept.lost))
    assert kept.lost == [tasks]
    assert {"event": "lease lost", "tasks": 3, "log_level": "error"} in logs
    await kept.renewals(1)
    assert [worker.worker_id for worker in await broker.queue.workers()] == [kept.record.worker_id]
    assert await kept.due() == tasks


async def test_a_task_that_was_taken_away_is_told(kept: Holder, broker: Broker) -> None:
    mine, withdrawn = await kept.claim(), await kept.claim()
    await broker.queue.withdraw(withdrawn, "flow", kept.record.worker_id)
    await kept.until(lambda: bool(kept.lost))
    assert kept.lost == [{withdrawn}]
    assert await broker.queue.held(kept.record.worker_id) == {mine: "flow"}


async def test_a_task_that_ended_meanwhile_is_not_lost(kept: Holder, broker: Broker) -> None:
    for _ in range(20):
        task = await kept.claim()
        await broker.queue.acknowledge(kept.record.worker_id, Claim(task, "flow", timedelta()))
        kept.running.discard(task)
    await kept.renewals(3)
    assert kept.lost == []


async def test_a_task_that_is_held_but_not_run_is_given_back(kept: Holder, broker: Broker) -> None:
    mine, stray = await kept.claim(), await kept.claim(run=False)
    async with asyncio.timeout(PATIENCE):
        while await kept.due() != {stray}:
            await asyncio.sleep(0.002)
    assert await broker.queue.held(kept.record.worker_id) == {mine: "flow"}
    assert kept.lost == []
    await kept.renewals(3)
    assert await kept.due() == {stray}


async def test_a_claim_whose_reply_was_lost_is_given_back(
    kept: Holder, broker: Broker, lossy_broker: Broker, lose_next_reply: Callable[[], None]
) -> None:
    task = await kept.enqueue()
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await lossy_broker.queue.claim(kept.record.worker_id, 1, {"flow": 1})
    assert await kept.due() == set()
    async with asyncio.timeout(PATIENCE):
        while await kept.due() != {task}:
            await asyncio.sleep(0.002)


async def test_a_claim_that_is_just_under_way_is_not_given_back(holder: Holder, broker: Broker) -> None:
    await holder.lease.begin()
    task = await holder.claim(run=False)
    await holder.lease._renew()
    # Its reply has come, and it runs.
    holder.running.add(task)
    for _ in range(3):
        await holder.lease._renew()
    assert await broker.queue.held(holder.record.worker_id) == {task: "flow"}
    assert await holder.due() == set()


async def test_who_leaves_gives_back_all_it_holds(holder: Holder, broker: Broker) -> None:
    await holder.lease.begin()
    tasks = {await holder.claim() for _ in range(2)}
    await holder.lease.leave()
    assert await holder.due() == tasks
    assert await broker.queue.workers() == []


async def test_a_lease_begins_when_redis_is_there(broker: Broker, redis: Redis, prefix: str) -> None:
    holder = Holder(broker)
    await redis.config_set("min-replicas-to-write", 1)
    try:
        beginning = asyncio.ensure_future(holder.lease.begin())
        await redis.config_resetstat()
        async with asyncio.timeout(PATIENCE):
            while "errorstat_NOREPLICAS" not in await redis.info("errorstats"):
                await asyncio.sleep(0.002)
        assert not beginning.done()
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    await asyncio.wait_for(beginning, PATIENCE)
    assert len(await broker.queue.workers()) == 1


async def test_a_lease_is_kept_over_a_time_without_redis(kept: Holder, broker: Broker, redis: Redis) -> None:
    task = await kept.claim()
    await redis.config_set("min-replicas-to-write", 1)
    try:
        await redis.config_resetstat()
        async with asyncio.timeout(PATIENCE):
            while (await redis.info("errorstats")).get("errorstat_NOREPLICAS", {}).get("count", 0) < 3:
                await asyncio.sleep(0.002)
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    await kept.renewals(2)
    assert kept.lost == []
    assert await broker.queue.held(kept.record.worker_id) == {task: "flow"}


async def test_over_another_connection_the_tasks_are_compared_though_their_number_is_the_same(
    kept: Holder, broker: Broker
) -> None:
    mine, other = await kept.claim(), TaskRef(new_task_id())
    await kept.renewals(2)
    # A failover whose new primary lacks the last claim, and the acknowledgement of one before.
    running = broker.keys.running(kept.record.worker_id)
    async with broker.redis.pipeline() as pipeline:
        pipeline.hdel(running, mine.member)
        pipeline.hset(running, other.member, "flow")
        await pipeline.execute()
    await kept.renewals(2)
    assert kept.lost == []
    broker.queue.wire.abandon()
    await kept.until(lambda: kept.lost == [{mine}])
