from datetime import timedelta

import pytest

from tailplane.broker import Broker, Closing, NewTask, TaskRef, Terms, WorkerRecord
from tailplane.control_plane import housekeeping
from tailplane.control_plane.housekeeping import Housekeeper
from tailplane.control_plane.queue import TaskQueue
from tailplane.protocol import codec, events
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.protocol.states import State, Trigger

from .test_fleet import MINUTE, worker_with_task

SOON = timedelta(milliseconds=1)


async def queued(broker: Broker, queue: TaskQueue) -> TaskRef:
    # "a" is registered, as it is wherever a task could be submitted.
    await worker_with_task(broker, queue)
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
    await queue.enqueue_job("a", _job_id=task.member)
    return task


def in_a_hurry(broker: Broker) -> Broker:
    return Broker.over(broker.redis, prefix=broker.keys.prefix, retention=MINUTE, start_within=SOON)


async def _register(broker: Broker, **more: int) -> None:
    await broker.redis.hset(broker.keys.workflows, "a", codec.pack(_RECORD | more))  # type: ignore[misc, arg-type]


_RECORD = {
    "name": "a", "version": "1", "description": "", "input_schema": {},
    "timeout_ms": None, "max_attempts": 1, "concurrency": None,
}  # fmt: skip


async def test_a_task_that_nobody_started_in_time_expires(broker: Broker, queue: TaskQueue) -> None:
    broker = in_a_hurry(broker)
    await _register(broker)
    task = await queued(broker, queue)
    # The server's clock counts in whole milliseconds.
    while not await broker.queue.overdue("a", SOON, 10):
        pass

    keeper = Housekeeper(broker)
    assert await keeper.end_overdue() == keeper.ended == 1

    assert (await broker.tasks.read(task)).state is State.EXPIRED
    (entries,) = await broker.log.read_after([(task, EntryId(0, 0), 10)])
    assert entries[-1].end == "expired"
    assert events.unpack_payload(entries[-1].id, entries[-1].payload)[0].type == "task.expired"
    assert not await broker.redis.zcard(broker.keys.due("a"))


async def test_a_task_in_time_is_left_alone(broker: Broker, queue: TaskQueue) -> None:
    await _register(broker)
    task = await queued(broker, queue)

    assert await Housekeeper(broker).end_overdue() == 0

    assert (await broker.tasks.read(task)).state is State.QUEUED


async def test_a_task_that_began_before_keeps_waiting_for_its_next_attempt(broker: Broker, queue: TaskQueue) -> None:
    broker = in_a_hurry(broker)
    await _register(broker)
    task = await queued(broker, queue)
    await broker.redis.hset(broker.keys.task(task), "attempt", "1")  # type: ignore[misc]
    while not await broker.queue.overdue("a", SOON, 10):
        pass

    assert await Housekeeper(broker).end_overdue() == 0

    assert await broker.redis.zcard(broker.keys.due("a")) == 1


async def test_a_late_task_behind_many_that_wait_for_another_attempt_expires(
    broker: Broker, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "AT_ONCE", 2)
    broker = in_a_hurry(broker)
    await _register(broker)
    await worker_with_task(broker, queue)
    *handed_back, late = (TaskRef(new_task_id()) for _ in range(8))
    for task in (*handed_back, late):
        await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
        await queue.enqueue_job("a", _job_id=task.member)
    for task in handed_back:
        await broker.redis.hset(broker.keys.task(task), "attempt", "1")  # type: ignore[misc]
    while len(await broker.queue.overdue("a", SOON, 10)) < 8:
        pass
    keeper = Housekeeper(broker)

    assert sum([await keeper.end_overdue() for _ in range(10)]) == 1

    assert (await broker.tasks.read(late)).state is State.EXPIRED
    assert await broker.redis.zcard(broker.keys.due("a")) == 7

    # However many queues there ever are.
    monkeypatch.setattr(housekeeping, "PLACES", 3)
    keeper._passed = dict.fromkeys(("gone/a", "also/a", "last/a"), 2)
    while "a" not in keeper._passed:
        await keeper.end_overdue()
    assert list(keeper._passed) == ["also/a", "last/a", "a"]


async def test_a_task_waits_as_long_as_it_was_promised_when_it_was_submitted(broker: Broker, queue: TaskQueue) -> None:
    await worker_with_task(broker, queue)
    patient, hasty = (TaskRef(new_task_id()) for _ in range(2))
    for task, start_within in ((patient, MINUTE), (hasty, SOON)):
        await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None), start_within=start_within))
        await queue.enqueue_job("a", _job_id=task.member)
    # What its author says now.
    await _register(broker, start_within_ms=1)
    while not await Housekeeper(broker).end_overdue():
        pass
    assert (await broker.tasks.read(patient)).state is State.QUEUED
    assert (await broker.tasks.read(hasty)).state is State.EXPIRED


async def test_a_task_whose_time_over_all_attempts_is_up_fails_while_it_waits_for_the_next(
    broker: Broker, queue: TaskQueue
) -> None:
    task = await queued(broker, queue)
    begun = await broker.tasks.begin(task, new_worker_id(), "host", total_timeout=timedelta(milliseconds=50))
    retrying = events.pack_platform_event(events.PlatformType.RETRYING, {})
    await broker.tasks.finish(task, Closing(Trigger.RETRY, 1, begun.seq, [retrying]))
    await _register(broker, total_timeout_ms=50)
    while not await Housekeeper(broker).end_overdue():
        pass
    record = await broker.tasks.read(task)
    assert (record.state, (record.error or {})["code"]) == (State.FAILED, "timeout")
    assert await broker.catalogue.dead_letter_ids("default", None, 10) == [task.task_id]
    assert not await broker.redis.zscore(broker.keys.due("a"), task.member)


async def test_tasks_whose_retention_has_passed_leave_the_index(broker: Broker, queue: TaskQueue) -> None:
    kept = await queued(broker, queue)
    gone = await queued(broker, queue)
    await broker.tasks.discard(gone)

    assert await Housekeeper(broker).forget_gone() == 1

    ids = await broker.catalogue.task_ids("default", None, None, 10)
    assert kept.task_id in ids
    assert gone.task_id not in ids
    assert await broker.catalogue.was_here(gone)


async def test_dead_letters_whose_retention_has_passed_leave_their_list(broker: Broker, queue: TaskQueue) -> None:
    kept, gone = await queued(broker, queue), TaskRef(new_task_id())
    for task in (kept, gone):
        await broker.catalogue.note_dead(task)

    assert await Housekeeper(broker).forget_gone_letters() == 1

    assert await broker.catalogue.dead_letter_ids("default", None, 10) == [kept.task_id]


async def test_all_of_a_long_list_is_looked_at(
    broker: Broker, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailplane.control_plane.housekeeping.AT_ONCE", 2)
    for _ in range(7):
        await broker.catalogue.note_dead(await queued(broker, queue))
    gone = TaskRef(new_task_id())
    await broker.catalogue.note_dead(gone)
    keeper = Housekeeper(broker)

    assert sum([await keeper.forget_gone_letters() for _ in range(4)]) == 1
    assert gone.task_id not in await broker.catalogue.dead_letter_ids("default", None, 10)


async def test_a_failed_task_that_came_back_to_the_queue_is_noted(broker: Broker, queue: TaskQueue) -> None:
    # Its worker died after it had ended the task, and the reaper gave back what it held.
    broker = in_a_hurry(broker)
    await _register(broker)
    task = await queued(broker, queue)
    await broker.tasks.end(task, Trigger.FAIL, 0, PlatformType.FAILED, {"error": {}})
    while not await broker.queue.overdue("a", SOON, 10):
        pass

    assert await Housekeeper(broker).end_overdue() == 1

    assert await broker.catalogue.dead_letter_ids("default", None, 10) == [task.task_id]
    assert not await broker.redis.zcard(broker.keys.due("a"))


async def test_an_idle_deployment_is_in_order(broker: Broker) -> None:
    keeper = Housekeeper(broker)

    assert (await keeper.end_overdue(), await keeper.forget_gone(), await keeper.forget_gone_letters()) == (0, 0, 0)


async def test_a_queued_task_without_a_record_leaves_the_queue(broker: Broker, queue: TaskQueue) -> None:
    broker = in_a_hurry(broker)
    await _register(broker)
    stray = TaskRef(new_task_id())
    await queue.enqueue_job("a", _job_id=stray.member)
    while not await broker.queue.overdue("a", SOON, 10):
        pass

    assert await Housekeeper(broker).end_overdue() == 1

    assert not await broker.redis.zcard(broker.keys.due("a"))


async def test_a_task_that_waits_for_its_key_expires_too(broker: Broker, queue: TaskQueue) -> None:
    broker = in_a_hurry(broker)
    await _register(broker)
    worker, terms = new_worker_id(), Terms(concurrency_key="key")
    await broker.queue.register(WorkerRecord(worker, "host", 1, "1", ["a"], 1, 0), [], MINUTE)
    tasks = [TaskRef(new_task_id()) for _ in range(2)]
    for task in tasks:
        await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None), terms=terms))
        await queue.enqueue_job("a", _job_id=task.member, terms=terms)
        await broker.queue.claim(worker, 1, {"a": 1})
    (blocked,) = await broker.queue.overdue("a", SOON, 10)
    keeper = Housekeeper(broker)
    while not keeper.ended:
        await keeper.end_overdue()

    assert (await broker.tasks.read(blocked)).state is State.EXPIRED
    assert await broker.queue.depth("a") == 0


async def test_a_key_that_nobody_leaves_lets_in_what_a_higher_limit_has_room_for(
    broker: Broker, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "AT_ONCE", 1)
    worker = new_worker_id()
    await broker.queue.register(WorkerRecord(worker, "host", 1, "1", ["a"], 1, 0), [], MINUTE)

    async def enqueue(limit: int, workflow: str = "a") -> None:
        terms = Terms(concurrency_key="key", concurrency_limit=limit)
        await queue.enqueue_job(workflow, _job_id=TaskRef(new_task_id()).member, terms=terms)

    for _ in range(4):
        await enqueue(1)
        await broker.queue.claim(worker, 9, {"a": 9})
    keeper = Housekeeper(broker)
    assert await keeper.admit() == 0
    await enqueue(3, "b")
    assert await keeper.admit() == 2
    assert len((await broker.queue.claim(worker, 9, {"a": 9})).taken) == 2


async def test_tasks_of_each_tenant_expire(broker: Broker, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "TENANTS_AT_ONCE", 2)
    broker = in_a_hurry(broker)
    await _register(broker)
    tasks = [TaskRef(new_task_id(), f"t{n}") for n in range(5)]
    for task in tasks:
        await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
        await queue.enqueue_job("a", _job_id=task.member)
    while not all([await broker.queue.overdue(name, SOON, 1) for name in await broker.queue.queues(9)]):
        pass
    keeper = Housekeeper(broker)
    # Two queues a round, in turn.
    assert [await keeper.end_overdue() for _ in range(3)] == [2, 2, 1]
    assert {record.state for record in [await broker.tasks.read(task) for task in tasks]} == {State.EXPIRED}
    assert await keeper.end_overdue() == 0


async def test_what_is_gone_of_each_tenant_is_forgotten_in_turn(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "TENANTS_AT_ONCE", 2)
    tenants = [f"t{n}" for n in range(5)]
    for tenant in tenants:
        await broker.tenants.note(tenant)
        await broker.catalogue.note_tasks(tenant, [new_task_id()])
        await broker.redis.zadd(broker.keys.dead(tenant), {new_task_id(): 0})
    keeper = Housekeeper(broker)
    # The default one is a tenant, too, and has none.
    assert sum([await keeper.forget_gone() for _ in range(3)]) == 5
    assert sum([await keeper.forget_gone_letters() for _ in range(3)]) == 5
    assert await broker.catalogue.dead_letter_counts(tenants) == dict.fromkeys(tenants, 0)
    assert [await broker.catalogue.task_ids(tenant, None, None, 1) for tenant in tenants] == [[]] * 5
