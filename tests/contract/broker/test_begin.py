"""begin.lua: an attempt begins, and fences every earlier one off."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, StartTooLate, TaskRef, parse_published
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, new_task_id
from tailplane.protocol.states import State, TransitionRefused, Trigger

from .conftest import OTHER_WORKER, Deployment, append, assert_whole, closing, new_task, server_now


async def test_a_queued_task_begins_its_first_attempt(deployment: Deployment, redis: Redis) -> None:
    task = await deployment.create()
    begun = await deployment.begin(task)
    assert (begun.attempt, begun.seq, begun.record.ref) == (1, 2, task)
    record = await deployment.record(task)
    assert (record.state, record.attempt, record.worker_id) == (State.RUNNING, 1, deployment.worker)
    assert record.started_at == pytest.approx(await server_now(redis), abs=60)
    assert (await deployment.entries(task))[-1].id == EntryId(1, 2)
    started = (await deployment.events(task))[-1]
    assert (started.type, started.attempt) == ("task.started", 1)
    assert started.data == {"worker_id": deployment.worker, "host": "host-1"}


async def test_a_running_task_does_not_expire(deployment: Deployment) -> None:
    assert await deployment.ttl_ms((await deployment.begin()).record.ref) == (-1, -1)


async def test_the_next_attempt_goes_on_where_the_last_one_ended(deployment: Deployment) -> None:
    first = await deployment.begin()
    task = first.record.ref
    await deployment.broker.log.append([append(first, "a", "b", "c")])
    await deployment.broker.tasks.finish(task, closing(first, Trigger.RETRY, after=5))
    second = await deployment.begin(task)
    assert (second.attempt, second.seq) == (2, 8)
    assert second.record.failures == 1
    assert await deployment.said(task) == [
        "task.queued", "task.started", "a", "b", "c", "task.retrying", "task.rewind", "task.started",
    ]  # fmt: skip
    assert_whole(await deployment.events(task))


async def test_a_handed_back_attempt_is_no_failed_one(deployment: Deployment) -> None:
    first = await deployment.begin()
    await deployment.finish(first, Trigger.HAND_BACK)
    assert (await deployment.begin(first.record.ref)).record.failures == 0


@pytest.mark.parametrize(("trigger", "reason"), [(Trigger.RETRY, "failed"), (Trigger.HAND_BACK, "handed_back")])
async def test_another_attempt_says_what_it_supersedes_and_why(
    deployment: Deployment, trigger: Trigger, reason: str
) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    assert (await deployment.record(task)).superseded == 0
    for attempt in (1, 2):
        await deployment.finish(begun, trigger, "said")
        ended_at = (await deployment.events(task))[-1].seq
        begun = await deployment.begin(task)
        rewind, started = (await deployment.events(task))[-2:]
        assert (rewind.type, rewind.attempt, rewind.data) == ("task.rewind", attempt + 1, {"to": 0, "reason": reason})
        assert (started.type, started.seq) == ("task.started", begun.seq)
        assert (await deployment.record(task)).superseded == ended_at
    # By another way than before: the last one counts.
    await deployment.finish(begun, Trigger.RETRY if trigger is Trigger.HAND_BACK else Trigger.HAND_BACK)
    await deployment.begin(task)
    (*_, rewind, _) = await deployment.events(task)
    assert rewind.data["reason"] != reason


async def test_a_task_whose_worker_was_lost_is_taken_over(deployment: Deployment, broker: Broker) -> None:
    first = await deployment.begin()
    task = first.record.ref
    second = await broker.tasks.begin(task, OTHER_WORKER, "host-2")
    assert (second.attempt, second.seq, second.record.failures) == (2, 5, 1)
    assert (await deployment.record(task)).worker_id == OTHER_WORKER
    lost, rewind, started = (await deployment.events(task))[-3:]
    assert (rewind.type, rewind.data) == ("task.rewind", {"to": 0, "reason": "worker_lost"})
    assert (await deployment.record(task)).superseded == 2
    assert (lost.type, lost.attempt, lost.data) == ("task.worker_lost", 1, {"worker_id": deployment.worker})
    assert (started.type, started.attempt) == ("task.started", 2)
    assert started.data == {"worker_id": OTHER_WORKER, "host": "host-2"}
    assert_whole(await deployment.events(task))


async def test_what_a_fenced_off_attempt_still_writes_is_refused(deployment: Deployment, broker: Broker) -> None:
    first = await deployment.begin()
    task = first.record.ref
    second = await broker.tasks.begin(task, OTHER_WORKER, "host-2")
    for after in (None, 3, 4, 1000):
        (refusal,) = await broker.log.append([append(first, "zombie", after=after)])
        assert refusal is not None
        assert refusal.tail == EntryId(2, 5)
        assert not refusal.means_already_there(append(first, "zombie", after=after).id)
    assert await broker.log.append([append(second, "mine")]) == [None]
    assert await deployment.said(task) == [
        "task.queued", "task.started", "task.worker_lost", "task.rewind", "task.started", "mine",
    ]  # fmt: skip


@pytest.mark.parametrize("trigger", [Trigger.SUCCEED, Trigger.FAIL, Trigger.CANCEL])
async def test_an_ended_task_is_not_begun(deployment: Deployment, trigger: Trigger) -> None:
    begun = await deployment.begin()
    state = await deployment.finish(begun, trigger)
    before = await deployment.entries(begun.record.ref)
    with pytest.raises(TransitionRefused) as caught:
        await deployment.begin(begun.record.ref)
    assert caught.value.state is state
    assert await deployment.entries(begun.record.ref) == before
    assert min(await deployment.ttl_ms(begun.record.ref)) > 0


async def test_a_task_that_waits_begins_its_next_attempt(deployment: Deployment, broker: Broker) -> None:
    first = await deployment.begin()
    waiting = closing(first, Trigger.RETRY)
    await broker.tasks.finish(
        first.record.ref, type(waiting)(Trigger.WAIT, waiting.attempt, waiting.after, waiting.packed)
    )
    assert (await deployment.record(first.record.ref)).state is State.WAITING
    assert (await deployment.begin(first.record.ref)).attempt == 2


async def test_a_task_whose_start_deadline_has_passed_is_too_late(redis: Redis, prefix: str) -> None:
    late = Broker.over(redis, prefix=prefix, retention=timedelta(hours=1), start_within=timedelta(seconds=-1))
    deployment = Deployment(late)
    task = await deployment.create()
    with pytest.raises(StartTooLate):
        await deployment.begin(task)
    assert (await deployment.record(task)).state is State.QUEUED
    assert await late.tasks.end(task, Trigger.EXPIRE, 0, PlatformType.EXPIRED, {"reason": "late"}) is State.EXPIRED
    assert await deployment.said(task) == ["task.queued", "task.expired"]


async def test_the_start_deadline_counts_for_the_first_attempt_only(
    deployment: Deployment, redis: Redis, prefix: str
) -> None:
    task = await deployment.create()
    first = await deployment.begin(task)
    await redis.hset(deployment.broker.keys.task(task), "start_by", "1")  # type: ignore[misc]
    await deployment.finish(first, Trigger.RETRY)
    assert (await deployment.begin(task)).attempt == 2


async def test_a_task_that_is_not_there_is_not_begun(deployment: Deployment) -> None:
    with pytest.raises(TaskNotFound):
        await deployment.begin(TaskRef(new_task_id()))


@pytest.mark.parametrize("what", ["task", "stream"])
async def test_a_task_that_lost_its_record_or_stream_is_not_begun(
    deployment: Deployment, redis: Redis, what: str
) -> None:
    task = await deployment.create()
    await redis.delete(getattr(deployment.broker.keys, what)(task))
    with pytest.raises(TaskNotFound):
        await deployment.begin(task)
    assert await redis.exists(getattr(deployment.broker.keys, what)(task)) == 0


async def test_of_many_that_begin_at_once_each_gets_an_attempt_of_its_own(
    deployment: Deployment, broker: Broker
) -> None:
    task = new_task()
    await broker.tasks.create(task)
    begun = await asyncio.gather(*(deployment.begin(task.ref) for _ in range(20)))
    assert sorted(each.attempt for each in begun) == list(range(1, 21))
    record = await deployment.record(task.ref)
    assert (record.attempt, record.failures) == (20, 19)
    events = await deployment.events(task.ref)
    assert_whole(events)
    # Each names the attempt that it took over: nobody took over from one that another had replaced already.
    assert [event.attempt for event in events if event.type == "task.worker_lost"] == list(range(1, 20))
    last = max(begun, key=lambda each: each.attempt)
    outcome = await broker.log.append([append(each, "x") for each in begun])
    assert [refusal is None for refusal in outcome] == [each is last for each in begun]


def published(message: bytes) -> tuple[EntryId, bytes]:
    entry = parse_published(message)
    assert entry is not None
    return entry.id, entry.payload


async def test_readers_are_told_of_a_new_attempt(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    task = await deployment.create()
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(broker.keys.bell(task))
        await pubsub.get_message(timeout=5)
        await deployment.begin(task)
        message = await pubsub.get_message(timeout=5)
    assert message is not None
    # The entry itself: nobody needs to read it.
    (_, entry) = await deployment.entries(task)
    assert published(message["data"]) == (entry.id, entry.payload)


async def test_the_frame_of_a_new_attempt_bears_numbers_of_any_size(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    task = await deployment.create()
    for attempt, seq in ((127, 128), (128, 255), (255, 256), (256, 65_535), (65_536, 2**31), (2**31, 2**40)):
        await redis.xadd(broker.keys.stream(task), {"e": b"\x90"}, id=f"{attempt}-{seq}")
        await redis.hset(broker.keys.task(task), mapping={"attempt": attempt, "state": "queued"})  # type: ignore[misc]
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(broker.keys.bell(task))
            await pubsub.get_message(timeout=5)
            begun = await deployment.begin(task)
            message = await pubsub.get_message(timeout=5)
        assert (begun.attempt, begun.seq) == (attempt + 1, seq + 1)
        assert message is not None
        newest = await broker.log.newest_entry(task)
        assert newest is not None
        assert published(message["data"]) == (newest.id, newest.payload)
