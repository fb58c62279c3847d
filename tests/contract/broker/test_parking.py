"""park.lua and unpark.lua: a task that waits lies in one place, where no worker looks, and comes back once."""

import asyncio

from tailplane.broker import Broker, Claim, TaskRef
from tailplane.broker.parking import Parked

from .conftest import OTHER_WORKER, Deployment, server_now


async def held(deployment: Deployment) -> Claim:
    await deployment.register()
    await deployment.enqueue()
    (claim,) = await deployment.claim()
    return claim


async def places(broker: Broker, task: TaskRef, deployment: Deployment) -> list[str]:
    due = await broker.redis.zscore(broker.keys.due("echo"), task.member) is not None
    running = task in await broker.queue.held(deployment.worker)
    (parked,) = await broker.parking.are_parked([Parked(task, "echo")])
    return ["due"] * due + ["running"] * running + ["parked"] * parked


async def test_a_parked_task_is_in_no_other_place(deployment: Deployment, broker: Broker) -> None:
    claim = await held(deployment)
    assert await broker.parking.park(deployment.worker, claim, None)
    assert await places(broker, claim.task, deployment) == ["parked"]
    assert await deployment.claim() == []
    assert await broker.parking.page(0, 10) == [Parked(claim.task, "echo")]


async def test_it_comes_back_to_its_queue_once_and_is_due_now(deployment: Deployment, broker: Broker) -> None:
    claim = await held(deployment)
    parked = Parked(claim.task, "echo")
    await broker.redis.delete(broker.keys.doorbell("echo"))
    await broker.parking.park(deployment.worker, claim, None)
    many = await asyncio.gather(*(broker.parking.unpark(parked) for _ in range(10)))
    assert sum(many) == 1
    assert await places(broker, claim.task, deployment) == ["due"]
    # One worker is woken.
    assert await broker.redis.llen(broker.keys.doorbell("echo")) == 1  # type: ignore[misc]
    assert [again.task for again in await deployment.claim()] == [claim.task]


async def test_what_is_not_parked_is_left_where_it_is(deployment: Deployment, broker: Broker) -> None:
    claim = await held(deployment)
    assert not await broker.parking.unpark(Parked(claim.task, "echo"))
    assert await places(broker, claim.task, deployment) == ["running"]


async def test_a_worker_that_holds_the_task_no_more_parks_nothing(deployment: Deployment, broker: Broker) -> None:
    claim = await held(deployment)
    assert not await broker.parking.park(OTHER_WORKER, claim, None)
    assert await broker.queue.reap(deployment.worker, leaves=True) == 1
    # Struck off between the record, which says that the task waits, and its place.
    assert not await broker.parking.park(deployment.worker, claim, None)
    assert await places(broker, claim.task, deployment) == ["due"]


async def test_parked_twice_it_is_parked_once(deployment: Deployment, broker: Broker) -> None:
    claim = await held(deployment)
    assert await broker.parking.park(deployment.worker, claim, None)
    assert not await broker.parking.park(deployment.worker, claim, 1.0)
    assert await broker.parking.due(2**52, 10) == []


async def test_a_cancelled_task_is_taken_from_there(deployment: Deployment, broker: Broker) -> None:
    claim = await held(deployment)
    await broker.parking.park(deployment.worker, claim, None)
    await broker.queue.withdraw(claim.task, "echo", deployment.worker)
    assert await places(broker, claim.task, deployment) == []


async def test_due_is_what_has_waited_as_long_as_it_may(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    for _ in range(4):
        await deployment.enqueue()
    claims = await deployment.claim()
    now = await server_now(broker.redis)
    for claim, until in zip(claims, (now + 60, None, now - 1, now - 2), strict=True):
        await broker.parking.park(deployment.worker, claim, until)
    now_ms = await broker.queue.now_ms()
    assert [each.task for each in await broker.parking.due(now_ms, 10)] == [claims[3].task, claims[2].task]
    assert [each.task for each in await broker.parking.due(now_ms, 1)] == [claims[3].task]
    assert [each.task for each in await broker.parking.due(now_ms + 120_000, 10)][2:] == [claims[0].task]
    assert {each.task for each in await broker.parking.page(0, 10)} == {claim.task for claim in claims}
    assert await broker.parking.page(3, 10) == [Parked(claims[1].task, "echo")]


def test_a_place_names_task_tenant_and_workflow() -> None:
    parked = Parked(TaskRef.from_member(b"acme/t_1"), "some.flow-1")
    assert Parked.from_place(parked.place.encode()) == parked
