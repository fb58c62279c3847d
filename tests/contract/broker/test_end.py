"""end.lua: a task is ended from outside, and its running attempt fenced off."""

import asyncio

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, TaskRef
from tailplane.protocol.errors import TaskLost, TaskNotFound
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, new_task_id
from tailplane.protocol.states import State, TransitionRefused, Trigger

from .conftest import Deployment, append, assert_whole, server_now


async def test_a_queued_task_is_cancelled(deployment: Deployment) -> None:
    task = await deployment.create()
    assert await deployment.cancel(task, 0) is State.CANCELLED
    entry = (await deployment.entries(task))[-1]
    assert (entry.id, entry.end) == (EntryId(1, 2), "cancelled")
    event = (await deployment.events(task))[-1]
    assert (event.type, event.attempt, event.data) == ("task.cancelled", 0, {"reason": "by the test"})
    with pytest.raises(TransitionRefused):
        await deployment.begin(task)


async def test_a_running_attempt_is_fenced_off(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await broker.log.append([append(begun, "before")])
    assert await deployment.cancel(task, 1) is State.CANCELLED
    assert (await deployment.entries(task))[-1].id == EntryId(2, 4)
    for after in (3, 4, 1_000_000):
        (refusal,) = await broker.log.append([append(begun, "after", after=after)])
        assert refusal is not None
        assert not refusal.means_already_there(EntryId(1, after + 1))
    assert await deployment.said(task) == ["task.queued", "task.started", "before", "task.cancelled"]


async def test_the_envelope_tells_the_attempt_that_was_ended(deployment: Deployment) -> None:
    begun = await deployment.begin()
    await deployment.finish(begun, Trigger.RETRY)
    begun = await deployment.begin(begun.record.ref)
    await deployment.cancel(begun.record.ref, 2)
    assert (await deployment.entries(begun.record.ref))[-1].id.fence == 3
    assert (await deployment.events(begun.record.ref))[-1].attempt == 2


async def test_record_and_stream_get_their_retention(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    begun = await deployment.begin()
    await deployment.cancel(begun.record.ref, 1)
    record = await deployment.record(begun.record.ref)
    assert record.state is State.CANCELLED
    assert record.ended_at == pytest.approx(await server_now(redis), abs=60)
    retention = broker.tasks.retention.total_seconds() * 1000
    for left in await deployment.ttl_ms(begun.record.ref):
        assert retention - 60_000 < left <= retention


async def test_a_task_that_moved_on_is_left_alone(deployment: Deployment) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await deployment.finish(begun, Trigger.RETRY)
    await deployment.begin(task)
    before = await deployment.entries(task)
    assert await deployment.cancel(task, 1) is None
    assert await deployment.cancel(task, 0) is None
    assert await deployment.entries(task) == before
    assert (await deployment.record(task)).state is State.RUNNING


async def test_a_state_that_does_not_take_the_trigger_is_left_alone(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    ended = await broker.tasks.end(begun.record.ref, Trigger.EXPIRE, 1, PlatformType.EXPIRED, {"reason": "late"})
    assert ended is None
    assert (await deployment.record(begun.record.ref)).state is State.RUNNING


async def test_an_ended_task_stays_as_it_ended(deployment: Deployment) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await deployment.finish(begun)
    before = await deployment.entries(task)
    assert await deployment.cancel(task, 1) is State.SUCCEEDED
    assert await deployment.entries(task) == before


async def test_cancelled_twice_it_is_cancelled_once(deployment: Deployment) -> None:
    task = await deployment.create()
    assert await asyncio.gather(*(deployment.cancel(task, 0) for _ in range(10))) == [State.CANCELLED] * 10
    assert await deployment.said(task) == ["task.queued", "task.cancelled"]


async def test_a_task_that_is_not_there_is_not_ended(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    with pytest.raises(TaskNotFound):
        await deployment.cancel(TaskRef(new_task_id()), 0)
    without_stream = await deployment.create()
    await redis.delete(broker.keys.stream(without_stream))
    with pytest.raises(TaskNotFound):
        await deployment.cancel(without_stream, 0)
    assert await redis.exists(broker.keys.stream(without_stream)) == 0


async def test_of_an_end_from_outside_and_one_from_inside_one_wins(deployment: Deployment) -> None:
    winners = []
    for number in range(60):
        begun = await deployment.begin()
        task = begun.record.ref
        sides = [deployment.cancel(task, 1), deployment.finish(begun, Trigger.SUCCEED, "x")]
        # Both orders of arrival are wanted.
        outcome = await asyncio.gather(*(sides if number % 2 else reversed(sides)), return_exceptions=True)
        from_outside, from_inside = outcome if number % 2 else reversed(outcome)
        state = (await deployment.record(task)).state
        assert from_outside is state
        if state is State.CANCELLED:
            assert isinstance(from_inside, TaskLost)
        else:
            assert from_inside is State.SUCCEEDED
        winners.append(state)
        events = await deployment.events(task)
        assert_whole(events)
        assert events[-1].is_terminal
        assert (await deployment.entries(task))[-1].end == state.value
    assert set(winners) == {State.CANCELLED, State.SUCCEEDED}


async def test_of_an_end_and_a_take_over_at_once_the_stream_stays_whole(deployment: Deployment) -> None:
    for number in range(30):
        begun = await deployment.begin()
        task = begun.record.ref
        sides = [deployment.cancel(task, 1), deployment.begin(task)]
        await asyncio.gather(*(sides if number % 2 else reversed(sides)), return_exceptions=True)
        record = await deployment.record(task)
        events = await deployment.events(task)
        assert_whole(events)
        # Either it was cancelled, or attempt 2 runs and the canceller has to look again.
        assert (record.state, record.attempt, events[-1].is_terminal) in [
            (State.CANCELLED, 1, True),
            (State.RUNNING, 2, False),
        ]
