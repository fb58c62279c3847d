"""finish.lua: the attempt that holds a task ends it or gives it back, in one step."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Closing, TailMismatch
from tailplane.protocol import codec
from tailplane.protocol.errors import StoreUnavailable, TaskLost
from tailplane.protocol.events import PlatformType, pack_event, pack_platform_event
from tailplane.protocol.ids import EntryId
from tailplane.protocol.states import State, Trigger

from .conftest import OTHER_WORKER, TYPES, Deployment, append, assert_whole, closing, server_now

ENDS = {Trigger.SUCCEED: State.SUCCEEDED, Trigger.FAIL: State.FAILED, Trigger.CANCEL: State.CANCELLED}
GIVES_BACK = [Trigger.RETRY, Trigger.HAND_BACK]


@pytest.mark.parametrize("trigger", ENDS)
async def test_state_terminal_event_and_ttl_come_in_one_step(
    deployment: Deployment, broker: Broker, redis: Redis, trigger: Trigger
) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    assert await deployment.finish(begun, trigger, "last words") is ENDS[trigger]
    record = await deployment.record(task)
    assert record.state is ENDS[trigger]
    assert record.ended_at == pytest.approx(await server_now(redis), abs=60)
    entry = (await deployment.entries(task))[-1]
    assert (entry.id, entry.end) == (EntryId(1, 4), ENDS[trigger].value)
    assert (await deployment.said(task))[-2:] == ["last words", TYPES[trigger].value]
    retention = broker.tasks.retention.total_seconds() * 1000
    for left in await deployment.ttl_ms(task):
        assert retention - 60_000 < left <= retention


@pytest.mark.parametrize("trigger", GIVES_BACK)
async def test_a_task_that_is_given_back_is_queued_and_stays(deployment: Deployment, trigger: Trigger) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    assert await deployment.finish(begun, trigger) is State.QUEUED
    assert await deployment.ttl_ms(task) == (-1, -1)
    assert (await deployment.entries(task))[-1].end is None
    record = await deployment.record(task)
    assert record.ended_at is None
    assert record.failures == (1 if trigger is Trigger.RETRY else 0)


async def test_result_and_error_are_kept(deployment: Deployment, broker: Broker) -> None:
    good, bad = await deployment.begin(), await deployment.begin()
    await deployment.finish(good)
    error = {"code": "workflow_error", "type": "E", "message": "no"}
    await broker.tasks.finish(bad.record.ref, replace(closing(bad, Trigger.FAIL), fields=["error", codec.pack(error)]))
    assert codec.unpack((await deployment.record(good.record.ref)).result or b"") == "done"
    record = await deployment.record(bad.record.ref)
    assert (record.error, record.result, record.failures) == (error, None, 1)


@pytest.mark.parametrize("trigger", [*ENDS, *GIVES_BACK])
async def test_sent_again_after_a_lost_reply_it_changes_nothing(
    deployment: Deployment, lossy_broker: Broker, lose_next_reply: Callable[[], None], trigger: Trigger
) -> None:
    begun = await deployment.begin()
    task, last = begun.record.ref, closing(begun, trigger, "x")
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await lossy_broker.tasks.finish(task, last)
    before = await deployment.record(task), await deployment.entries(task)
    assert before[1][-1].id == EntryId(1, 4)
    assert await lossy_broker.tasks.finish(task, last) is before[0].state
    assert (await deployment.record(task), await deployment.entries(task)) == before


async def test_an_attempt_that_was_taken_over_has_lost_the_task(deployment: Deployment, broker: Broker) -> None:
    first = await deployment.begin()
    task = first.record.ref
    await broker.tasks.begin(task, OTHER_WORKER, "host-2")
    before = await deployment.entries(task)
    for trigger in (*ENDS, *GIVES_BACK):
        with pytest.raises(TaskLost, match="is running in attempt 2"):
            await deployment.finish(first, trigger)
    assert await deployment.entries(task) == before
    assert (await deployment.record(task)).state is State.RUNNING


async def test_an_attempt_whose_task_was_cancelled_has_lost_it(deployment: Deployment) -> None:
    begun = await deployment.begin()
    await deployment.cancel(begun.record.ref, 1)
    with pytest.raises(TaskLost, match="is cancelled in attempt 1"):
        await deployment.finish(begun)
    assert (await deployment.said(begun.record.ref))[-1] == "task.cancelled"


async def test_an_attempt_whose_task_is_gone_has_lost_it(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    begun, other = await deployment.begin(), await deployment.begin()
    await broker.tasks.discard(begun.record.ref)
    await redis.delete(broker.keys.stream(other.record.ref))
    for each in (begun, other):
        with pytest.raises(TaskLost, match="was removed"):
            await deployment.finish(each)
        assert await redis.exists(broker.keys.stream(each.record.ref)) == 0
    assert await redis.exists(broker.keys.task(begun.record.ref)) == 0


@pytest.mark.parametrize("believed", [2, 3, 5, 100])
async def test_a_stream_that_ends_elsewhere_is_a_mismatch(
    deployment: Deployment, broker: Broker, believed: int
) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await broker.log.append([append(begun, "a", "b")])
    with pytest.raises(TailMismatch, match="ends at 4 "):
        await broker.tasks.finish(task, closing(begun, Trigger.SUCCEED, after=believed))
    assert (await deployment.record(task)).state is State.RUNNING
    assert await broker.tasks.finish(task, closing(begun, Trigger.SUCCEED, after=4)) is State.SUCCEEDED
    assert_whole(await deployment.events(task))


async def test_an_ended_task_takes_no_second_end(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await deployment.finish(begun)
    before = await deployment.entries(task)
    for trigger in (*ENDS, *GIVES_BACK):
        with pytest.raises(TaskLost):
            await broker.tasks.finish(task, closing(begun, trigger, after=3))
    assert await deployment.entries(task) == before


@pytest.mark.parametrize("trigger", [Trigger.FAIL, Trigger.CANCEL])
async def test_an_attempt_that_gave_its_task_back_does_not_end_it(
    deployment: Deployment, broker: Broker, trigger: Trigger
) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await broker.tasks.finish(task, closing(begun, Trigger.RETRY))
    with pytest.raises(TaskLost):
        await broker.tasks.finish(task, closing(begun, trigger, after=3))
    assert (await deployment.record(task)).state is State.QUEUED


async def test_of_many_ends_at_once_one_is_written(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    task = begun.record.ref

    async def end(number: int) -> bool:
        last = pack_platform_event(PlatformType.SUCCEEDED, {"result": number})
        packed = [*[pack_event("x")] * number, last]
        try:
            await broker.tasks.finish(task, Closing(Trigger.SUCCEED, 1, begun.seq, packed))
        except TaskLost:
            return False
        return True

    assert sum(await asyncio.gather(*(end(number) for number in range(10)))) == 1
    events = await deployment.events(task)
    assert_whole(events)
    assert events[-1].is_terminal


async def test_large_last_entries_are_numbered_from_their_last_event(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    await deployment.finish(begun, Trigger.SUCCEED, *range(5000))
    events = await deployment.events(begun.record.ref)
    assert_whole(events)
    assert len(events) == 5003


async def test_readers_are_told_of_the_end(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    begun = await deployment.begin()
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(broker.keys.bell(begun.record.ref))
        await pubsub.get_message(timeout=5)
        await deployment.finish(begun, Trigger.SUCCEED, "a")
        message = await pubsub.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b"4"
