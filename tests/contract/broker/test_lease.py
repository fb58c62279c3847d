"""register.lua, renew.lua, reap.lua: a worker holds a lease, and what it held is given back when it is gone."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, LeaseLapsed, WorkerRecord, WorkflowRecord
from tailplane.broker.store import Argument
from tailplane.broker.wire import Wire
from tailplane.protocol.ids import new_worker_id

from .conftest import LAPSED, LEASE, Deployment, server_now


async def test_a_registered_worker_is_listed(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    await deployment.register()
    await deployment.enqueue()
    await deployment.claim()
    (worker,) = await broker.queue.workers()
    assert (worker.worker_id, worker.host, worker.pid, worker.version) == (deployment.worker, "host-1", 42, "0.1.0")
    assert (worker.workflows, worker.concurrency, worker.running) == (["echo"], 10, 1)
    assert worker.started_at == pytest.approx(await server_now(redis), abs=60)
    assert LEASE.total_seconds() * 1000 - 60_000 < worker.lease_ms <= LEASE.total_seconds() * 1000


async def test_its_workflows_are_known_to_all(broker: Broker) -> None:
    flows = [
        WorkflowRecord("b", "1", "B.", {"type": "integer"}, None, 1, None),
        WorkflowRecord("a", "2", "A.", {}, 1500, 3, 4),
    ]
    worker = WorkerRecord(new_worker_id(), "host-1", 1, "0.1.0", ["a", "b"], 1, started_at=0)
    await broker.queue.register(worker, flows, LEASE)
    assert await broker.queue.workflows() == {"a": flows[1], "b": flows[0]}
    newer = WorkflowRecord("a", "3", "A.", {}, None, 1, None)
    await broker.queue.register(worker, [newer], LEASE)
    assert await broker.queue.workflows() == {"a": newer, "b": flows[0]}


async def test_a_worker_without_workflows_may_register(broker: Broker) -> None:
    worker = WorkerRecord(new_worker_id(), "host-1", 1, "0.1.0", [], 1, started_at=0)
    await broker.queue.register(worker, [], LEASE)
    assert [each.worker_id for each in await broker.queue.workers()] == [worker.worker_id]
    assert await broker.queue.workflows() == {}


async def test_a_renewal_tells_how_many_tasks_the_worker_holds(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    assert await broker.queue.renew(deployment.worker, LEASE) == 0
    for _ in range(3):
        await deployment.enqueue()
    await deployment.claim()
    assert await broker.queue.renew(deployment.worker, LEASE) == 3


async def test_a_renewal_sets_the_lease_to_its_length(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    await broker.queue.renew(deployment.worker, timedelta(minutes=1))
    (worker,) = await broker.queue.workers()
    assert 0 < worker.lease_ms <= 60_000


async def test_a_worker_that_was_struck_off_can_not_renew(deployment: Deployment, broker: Broker) -> None:
    with pytest.raises(LeaseLapsed):
        await broker.queue.renew(deployment.worker, LEASE)
    await deployment.register()
    await broker.queue.reap(deployment.worker, leaves=True)
    with pytest.raises(LeaseLapsed):
        await broker.queue.renew(deployment.worker, LEASE)
    assert await broker.queue.workers() == []


async def test_a_renewal_saves_a_lease_that_ran_out_before_a_reaper_came(
    deployment: Deployment, broker: Broker
) -> None:
    await deployment.register(lease=LAPSED)
    assert await broker.queue.lapsed() == [deployment.worker]
    await broker.queue.renew(deployment.worker, LEASE)
    assert await broker.queue.lapsed() == []
    assert await broker.queue.reap(deployment.worker) == -1


async def test_only_leases_that_ran_out_are_lapsed(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    gone = [await deployment.register(lease=LAPSED, worker=new_worker_id()) for _ in range(2)]
    assert sorted(await broker.queue.lapsed()) == sorted(gone)


async def test_a_living_worker_is_not_reaped(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    await deployment.claim()
    assert await broker.queue.reap(deployment.worker) == -1
    assert await broker.queue.held(deployment.worker) == {task: "echo"}


@pytest.mark.parametrize("how", ["lapsed", "leaves"])
async def test_all_that_a_worker_held_is_given_back_once(
    deployment: Deployment, broker: Broker, redis: Redis, how: str
) -> None:
    await deployment.register()
    tasks = {await deployment.enqueue("ab"[n % 2]) for n in range(6)}
    assert len(await deployment.claim(a=3, b=3)) == 6
    if how == "lapsed":
        await broker.queue.renew(deployment.worker, LAPSED)
    reaped = await asyncio.gather(*(broker.queue.reap(deployment.worker, leaves=how == "leaves") for _ in range(5)))
    assert sorted(reaped) == [0, 0, 0, 0, 6]
    assert await broker.queue.workers() == []
    assert await redis.exists(broker.keys.running(deployment.worker), broker.keys.worker(deployment.worker)) == 0
    heir = Deployment(broker)
    await heir.register()
    assert {claim.task for claim in await heir.claim(a=10, b=10)} == tasks


async def test_what_a_reaper_gave_back_is_due_at_once(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    await deployment.enqueue()
    await deployment.claim()
    await broker.queue.reap(deployment.worker, leaves=True)
    await deployment.register()
    (claim,) = await deployment.claim()
    assert claim.waited < timedelta(minutes=1)


async def test_a_requeue_after_the_reaper_came_is_refused(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    (claim,) = await deployment.claim()
    await broker.queue.reap(deployment.worker, leaves=True)
    heir = Deployment(broker)
    await heir.register()
    assert [each.task for each in await heir.claim()] == [task]
    assert await broker.queue.requeue(deployment.worker, claim, timedelta()) is False
    await broker.queue.acknowledge(deployment.worker, claim)
    assert await broker.queue.held(heir.worker) == {task: "echo"}


async def test_a_worker_that_nobody_knows_is_reaped_without_harm(broker: Broker) -> None:
    assert await broker.queue.reap(new_worker_id()) == 0


async def test_a_claim_between_the_reaper_s_look_and_its_script_is_given_back_too(
    deployment: Deployment, broker: Broker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployment.register()
    await deployment.enqueue("a")
    await deployment.claim(a=1)
    await deployment.enqueue("b")
    looks = 0
    run = Wire.run

    async def look_then_claim(self: Wire, *command: Argument) -> Any:
        nonlocal looks
        found = await run(self, *command)
        if command[0] == "HVALS":
            looks += 1
            await deployment.claim(b=1)
        return found

    monkeypatch.setattr(Wire, "run", look_then_claim)
    assert await broker.queue.reap(deployment.worker, leaves=True) == 2
    assert looks == 1
