"""schedule, fire, pass_over, pause and resume.lua: a due time is queued once, whoever tries it and when."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, NewTask, TaskRef
from tailplane.broker.records import Fired
from tailplane.broker.schedules import Behind, Move, MovedOn, ScheduleRecord
from tailplane.broker.tasks import TooLateToRecord
from tailplane.protocol import codec
from tailplane.protocol.errors import ScheduleNotFound, TaskNotFound
from tailplane.protocol.ids import TaskId, parse_task_id
from tailplane.protocol.priorities import Priority
from tailplane.protocol.states import TransitionRefused

from .conftest import Deployment, every, new_task, server_now

TENANT = "default"
FIRST = Move(1000, 1000, 2000)


async def put(broker: Broker, name: str = "hourly", due_ms: int = 1000) -> ScheduleRecord:
    await broker.schedules.put(TENANT, name, every(1), due_ms, 0)
    return await broker.schedules.read(TENANT, name)


async def record(broker: Broker, schedule: ScheduleRecord, due_ms: int, record_by_ms: int = 0) -> TaskRef:
    task = schedule.task_at(due_ms)
    fired = Fired(schedule.name, due_ms, record_by_ms)
    await broker.tasks.create(NewTask(task, "echo", "7", codec.pack(None), fired=fired))
    return task


async def queued(broker: Broker) -> list[TaskId]:
    return sorted(task.task_id for task in await broker.queue.overdue("echo", timedelta(), 100))


async def test_a_due_time_is_queued_and_the_schedule_moves_on(broker: Broker, redis: Redis) -> None:
    schedule = await put(broker)
    task = await record(broker, schedule, 1000)

    assert await broker.schedules.fire(schedule, FIRST, 1000, task) == 1

    assert await queued(broker) == [task.task_id]
    assert await broker.catalogue.task_ids(TENANT, None, None, 10) == [task.task_id]
    now = await broker.schedules.read(TENANT, "hourly")
    assert (now.next_ms, now.last_due_ms, now.last_task, now.fired) == (2000, 1000, task.task_id, 1)
    assert now.last_fired_ms is not None
    assert abs(now.last_fired_ms / 1000 - await server_now(redis)) < 5
    assert await broker.schedules.upcoming([TENANT], 10) == {TENANT: [("hourly", 2000)]}
    found = await broker.tasks.read(task)
    assert (found.schedule, found.due_at) == ("hourly", 1.0)


async def test_a_fired_task_has_the_class_that_it_is_fired_with(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    schedule = await put(broker)
    task = await record(broker, schedule, 1000)
    before = await deployment.enqueue(due=-60)

    assert await broker.schedules.fire(schedule, FIRST, 1000, task, Priority.HIGH) == 1

    claims = await deployment.claim()
    assert [claim.task for claim in claims] == [task, before]
    await broker.queue.acknowledge(deployment.worker, *claims)
    assert not await broker.redis.exists(*broker.keys.of_terms)


async def test_many_that_fire_one_due_time_at_once_queue_it_once(broker: Broker) -> None:
    schedule = await put(broker)

    async def fire() -> None:
        await broker.schedules.fire(schedule, FIRST, 1000, await record(broker, schedule, 1000))

    outcomes = await asyncio.gather(*(fire() for _ in range(30)), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, MovedOn)]
    assert (len(refused), outcomes.count(None)) == (29, 1)
    # Somebody has queued it: its record must stay.
    assert not any(error.is_left_over for error in refused)
    assert len(await queued(broker)) == 1
    assert (await broker.schedules.read(TENANT, "hourly")).fired == 1


async def test_who_was_stopped_in_the_middle_for_ages_fires_nothing(deployment: Deployment, broker: Broker) -> None:
    schedule = await put(broker)
    task = await record(broker, schedule, 1000)
    await broker.schedules.fire(schedule, FIRST, 1000, task)
    # It was run, and its retention has passed.
    await broker.queue.withdraw(task, "echo", None)
    await broker.tasks.discard(task)
    await broker.catalogue.note_gone(TENANT, [task.task_id])

    with pytest.raises(TooLateToRecord):
        await record(broker, schedule, 1000, record_by_ms=1)
    with pytest.raises(MovedOn):
        await broker.schedules.fire(schedule, FIRST, 1000, task)

    assert await queued(broker) == []
    with pytest.raises(TaskNotFound):
        await broker.tasks.read(task)


async def test_a_queue_that_has_forgotten_what_it_fired_runs_nothing_twice(
    deployment: Deployment, broker: Broker
) -> None:
    schedule = await put(broker)
    task = await record(broker, schedule, 1000)
    await broker.schedules.fire(schedule, FIRST, 1000, task)
    await deployment.register()
    assert [claim.task for claim in await deployment.claim()] == [task]
    await deployment.finish(await deployment.begin(task))
    # As a backup has it.
    await broker.redis.hset(broker.keys.schedule(TENANT, "hourly"), "next", "1000")

    assert await broker.schedules.fire(schedule, FIRST, 1000, await record(broker, schedule, 1000)) == 1

    assert [claim.task for claim in await deployment.claim()] == [task]
    with pytest.raises(TransitionRefused):
        await deployment.begin(task)


async def test_a_record_that_is_there_is_taken_however_late(broker: Broker) -> None:
    schedule = await put(broker)
    task = await record(broker, schedule, 1000)
    assert await record(broker, schedule, 1000, record_by_ms=1) == task


async def test_what_nobody_will_ever_queue_is_known_as_left_over(broker: Broker) -> None:
    schedule = await put(broker)
    late = await record(broker, schedule, 1000)
    await broker.schedules.pass_over(schedule, Move(1000, None, 3000, missed=2))

    with pytest.raises(MovedOn) as moved:
        await broker.schedules.fire(schedule, FIRST, 1000, late)
    assert moved.value.is_left_over
    # This one may still be fired by others, for which the record is there.
    early = await record(broker, schedule, 4000)
    with pytest.raises(MovedOn) as moved:
        await broker.schedules.fire(schedule, Move(1000, 4000, 5000), 4000, early)
    assert not moved.value.is_left_over


async def test_of_a_deleted_or_replaced_or_paused_schedule_nothing_is_fired(broker: Broker) -> None:
    for name in ("deleted", "replaced", "paused", "resumed"):
        schedule = await put(broker, name)
        task = await record(broker, schedule, 1000)
        match name:
            case "deleted":
                assert await broker.schedules.delete(TENANT, name)
            case "replaced":
                assert await broker.schedules.put(TENANT, name, every(2), 1000, 0) == "replaced"
            case _:
                await broker.schedules.pause(TENANT, name)
        if name == "resumed":
            assert await broker.schedules.resume(schedule, 1000)
        with pytest.raises(MovedOn) as moved:
            await broker.schedules.fire(schedule, FIRST, 1000, task)
        assert moved.value.is_left_over
        assert not await broker.schedules.pass_over(schedule, FIRST)
        again = [found for found in await broker.schedules.read_many(TENANT, [name]) if found]
        assert all(found.is_paused or found.task_at(1000) != task for found in again)
    assert await queued(broker) == []


async def test_what_is_put_again_as_it_is_stays_as_it_is(broker: Broker) -> None:
    schedule = await put(broker)
    await broker.schedules.fire(schedule, FIRST, 1000, await record(broker, schedule, 1000))
    before = await broker.schedules.read(TENANT, "hourly")

    assert await broker.schedules.put(TENANT, "hourly", every(1), 9000, 500) == "kept"

    assert await broker.schedules.read(TENANT, "hourly") == before


async def test_what_replaces_a_schedule_never_fires_a_due_time_again(broker: Broker) -> None:
    schedule = await put(broker)
    task = await record(broker, schedule, 1000)
    await broker.schedules.fire(schedule, FIRST, 1000, task)

    with pytest.raises(Behind) as behind:
        await broker.schedules.put(TENANT, "hourly", every(2), 1000, 0)
    assert behind.value.last_due_ms == 1000
    assert (await broker.schedules.read(TENANT, "hourly")).revision == schedule.revision

    assert await broker.schedules.put(TENANT, "hourly", every(2), 1001, 7) == "replaced"
    now = await broker.schedules.read(TENANT, "hourly")
    assert (now.next_ms, now.last_due_ms, now.last_task, now.fired) == (1001, 1000, task.task_id, 1)
    assert (now.created_ms, now.since_ms, now.spec) == (0, 7, every(2))
    assert now.revision != schedule.revision


async def test_a_paused_schedule_stays_paused_when_it_is_replaced(broker: Broker) -> None:
    await put(broker)
    await broker.schedules.pause(TENANT, "hourly")
    assert await broker.schedules.put(TENANT, "hourly", every(2), 5000, 0) == "replaced"

    now = await broker.schedules.read(TENANT, "hourly")
    assert (now.is_paused, now.next_ms) == (True, None)
    assert await broker.schedules.upcoming([TENANT], 10) == {TENANT: []}
    assert await broker.schedules.resume(now, 6000)
    # Done again, and by who has read it before, nothing changes.
    assert not await broker.schedules.resume(now, 7000)
    assert await broker.schedules.upcoming([TENANT], 10) == {TENANT: [("hourly", 6000)]}


async def test_a_schedule_that_has_come_to_its_end_is_due_no_more(broker: Broker) -> None:
    schedule = await put(broker)
    last = Move(1000, 1000, None)
    await broker.schedules.fire(schedule, last, 1000, await record(broker, schedule, 1000))

    assert (await broker.schedules.read(TENANT, "hourly")).next_ms is None
    assert await broker.schedules.upcoming([TENANT], 10) == {TENANT: []}
    assert await broker.schedules.names(TENANT, None, 10) == ["hourly"]


async def test_schedules_are_listed_by_name(broker: Broker) -> None:
    for name in ("c", "a", "b"):
        await put(broker, name)

    assert await broker.schedules.names(TENANT, None, 2) == ["a", "b"]
    assert await broker.schedules.names(TENANT, "b", 2) == ["c"]
    assert [found and found.name for found in await broker.schedules.read_many(TENANT, ["c", "x"])] == ["c", None]


async def test_what_is_not_there_is_said_to_be_missing(broker: Broker) -> None:
    with pytest.raises(ScheduleNotFound):
        await broker.schedules.read(TENANT, "none")
    with pytest.raises(ScheduleNotFound):
        await broker.schedules.pause(TENANT, "none")
    assert not await broker.schedules.delete(TENANT, "none")


async def test_the_id_of_a_due_time_is_its_own_and_in_the_order_of_time(broker: Broker) -> None:
    schedule, other = await put(broker), await put(broker, "other")
    made = [schedule.task_at(due).task_id for due in (999, 1000, 2000)]
    assert made == sorted(made)
    assert all(parse_task_id(each) == each for each in made)
    assert schedule.task_at(1000) == schedule.task_at(1000) != other.task_at(1000)


async def test_a_delayed_task_s_times_count_from_when_it_is_due(deployment: Deployment, broker: Broker) -> None:
    delay = timedelta(hours=5)
    task = new_task(delay=delay)

    made = await broker.tasks.create(task)

    found = await deployment.record(task.ref)
    assert made.due_at == found.due_at == pytest.approx(found.created_at + 5 * 3600, abs=0.001)
    start_within = broker.tasks.start_within
    assert found.start_by == pytest.approx(found.created_at + (delay + start_within).total_seconds(), abs=0.002)
    kept = (delay + start_within + broker.tasks.retention).total_seconds() * 1000
    assert await deployment.ttl_ms(task.ref) == pytest.approx((kept, kept), abs=5000)
