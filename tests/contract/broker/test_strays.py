"""Tasks that the queue has lost: which they are, and that they are queued again."""

from datetime import timedelta

from redis.asyncio import Redis

from tailplane.broker import Broker, NewTask, TaskRef, Terms, strays
from tailplane.broker.parking import Parked
from tailplane.protocol import codec
from tailplane.protocol.ids import TaskId, new_task_id
from tailplane.protocol.priorities import Priority
from tailplane.protocol.states import State, Trigger

from .conftest import Deployment, new_task

TENANT = "default"


async def look(broker: Broker, *, mend: bool = False) -> tuple[int, set[TaskRef]]:
    found = await strays.survey(broker, [broker.redis], mend=mend, settle=0.0)
    return found.records, {record.ref for record in found.strays}


async def listed(broker: Broker) -> set[TaskId]:
    return set(await broker.catalogue.task_ids(TENANT, None, None, 100))


async def test_a_task_that_is_queued_held_or_ended_is_no_stray(deployment: Deployment) -> None:
    await deployment.register()
    running = await deployment.enqueue()
    await deployment.claim()
    await deployment.begin(running)
    claimed = await deployment.enqueue()
    await deployment.claim()
    await deployment.enqueue(due=60)
    ended = await deployment.begin()
    await deployment.finish(ended)
    assert claimed != running
    assert await look(deployment.broker) == (4, set())


async def test_a_task_that_the_queue_does_not_know_is_run_again(deployment: Deployment) -> None:
    await deployment.register()
    queued = await deployment.create()
    begun = await deployment.begin()
    lost = {queued, begun.record.ref}
    assert await look(deployment.broker) == (2, lost)
    assert await deployment.claim() == []
    assert await look(deployment.broker, mend=True) == (2, lost)
    assert {claim.task for claim in await deployment.claim()} == lost
    # It is held now, and goes on where it was.
    assert await look(deployment.broker) == (2, set())
    again = await deployment.begin(begun.record.ref)
    assert (again.attempt, again.record.failures) == (2, 1)
    assert await deployment.said(again.record.ref) == [
        "task.queued", "task.started", "task.worker_lost", "task.rewind", "task.started",
    ]  # fmt: skip


async def test_a_task_that_waits_and_is_nowhere_is_run_again_and_one_that_is_parked_is_not(
    deployment: Deployment,
) -> None:
    broker = deployment.broker
    await deployment.register()
    parked, due, lost = [await deployment.enqueue() for _ in range(3)]
    claims = {claim.task: claim for claim in await deployment.claim()}
    for task in (parked, due, lost):
        await deployment.finish(await deployment.begin(task), Trigger.WAIT)
    for task in (parked, due):
        await broker.parking.park(deployment.worker, claims[task], None)
    await broker.parking.unpark(Parked(due, "echo"))
    # Its worker has it yet: between its record and its place.
    assert await look(broker) == (3, set())
    await broker.queue.acknowledge(deployment.worker, claims[lost])
    assert await look(broker) == (3, {lost})
    assert await look(broker, mend=True) == (3, {lost})
    assert {claim.task for claim in await deployment.claim()} == {due, lost}
    assert await broker.parking.page(0, 10) == [Parked(parked, "echo")]


async def test_a_lost_task_that_was_put_off_is_not_run_before_its_time(deployment: Deployment) -> None:
    await deployment.register()
    task = new_task(delay=timedelta(minutes=1))
    await deployment.broker.tasks.create(task)
    assert await look(deployment.broker, mend=True) == (1, {task.ref})
    assert await deployment.claim() == []
    assert await look(deployment.broker) == (1, set())


async def test_what_is_only_looked_at_stays_as_it_is(deployment: Deployment, redis: Redis) -> None:
    await deployment.register()
    await deployment.create()

    async def contents() -> dict[bytes, bytes]:
        # Of this deployment: what other tests left on the server may expire meanwhile.
        return {key: await redis.dump(key) async for key in redis.scan_iter(f"{deployment.broker.keys.prefix}:*")}

    before = await contents()
    assert before
    await look(deployment.broker)
    assert await contents() == before


async def test_lists_that_were_lost_are_made_again(deployment: Deployment, redis: Redis) -> None:
    broker = deployment.broker
    await deployment.register()
    failed, succeeded = await deployment.begin(), await deployment.begin()
    await deployment.finish(failed, Trigger.FAIL)
    await deployment.finish(succeeded)
    await redis.delete(broker.keys.tasks(TENANT), broker.keys.dead(TENANT))
    await look(broker, mend=True)
    assert await listed(broker) == {failed.record.task_id, succeeded.record.task_id}
    assert await broker.catalogue.dead_letter_ids(TENANT, None, 10) == [failed.record.task_id]
    assert (await deployment.record(failed.record.ref)).state is State.FAILED


async def test_a_task_on_its_way_from_one_place_to_another_is_no_stray(deployment: Deployment) -> None:
    # Seen in no place by the first look: between its record and its queue.
    task = await deployment.create()
    (candidate,) = (await strays.survey(deployment.broker, [deployment.broker.redis], mend=False, settle=0)).strays
    await deployment.broker.queue.enqueue(task, "echo", delay=timedelta(minutes=1))
    assert await strays._still_strays(deployment.broker, [candidate]) == []


async def test_another_deployment_on_the_same_server_is_left_alone(deployment: Deployment, redis: Redis) -> None:
    other = Deployment(
        Broker.over(redis, prefix="other", retention=timedelta(hours=1), start_within=timedelta(hours=1))
    )
    await other.create()
    assert await look(deployment.broker, mend=True) == (0, set())
    assert (await look(other.broker))[0] == 1


async def test_a_task_that_waits_for_its_key_is_no_stray_and_a_lost_one_gets_its_terms_again(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    await deployment.register()
    terms = [Terms(priority, "key", 2) for priority in Priority] + [Terms(Priority.LOW)]
    tasks = [await deployment.enqueue(terms=each) for each in terms]
    assert len(await deployment.claim(echo=3)) == 3
    blocked = await deployment.enqueue(terms=terms[0])
    assert await look(broker) == (5, set())
    await redis.delete(*broker.keys.of_terms, *broker.keys.queue_of("echo"), broker.keys.running(deployment.worker))
    assert await look(broker, mend=True) == (5, {*tasks, blocked})
    claimed = [claim.task for claim in await deployment.claim(echo=9)]
    assert set(claimed) == {tasks[0], blocked, tasks[3]}
    assert claimed[-1] == tasks[3]


async def test_a_stray_of_another_tenant_comes_back_to_its_tenants_queue(deployment: Deployment) -> None:
    broker, stray = deployment.broker, TaskRef(new_task_id(), "acme")
    await broker.tasks.create(NewTask(stray, "echo", "7", codec.pack(None)))
    assert await look(broker, mend=True) == (1, {stray})
    assert await look(broker) == (1, set())
    assert await broker.queue.overdue("acme/echo", timedelta(), 9) == [stray]
    assert await broker.tenants.names() == ["acme", "default"]
    assert await broker.catalogue.task_ids("acme", None, None, 9) == [stray.task_id]
