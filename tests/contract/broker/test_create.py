"""create.lua: a task is recorded and its stream opened, once."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, NewTask, TaskRef
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.protocol import codec
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.ids import EntryId, SessionId, new_session_id, new_task_id
from tailplane.protocol.states import State

from .conftest import Deployment, new_task, server_now


async def test_a_created_task_is_queued_and_all_that_was_asked_for_is_kept(
    deployment: Deployment, redis: Redis
) -> None:
    session = new_session_id()
    task = NewTask(
        TaskRef(new_task_id()),
        "echo",
        "7",
        codec.pack({"n": 1}),
        session_id=session,
        metadata={"team": "a"},
        trace={"traceparent": "00-1-2-01"},
    )
    before = await server_now(redis)
    await deployment.broker.tasks.create(task)
    record = await deployment.record(task.ref)
    assert (record.ref, record.workflow, record.version) == (task.ref, "echo", "7")
    assert (record.state, record.attempt, record.failures) == (State.QUEUED, 0, 0)
    assert (record.session_id, record.metadata) == (session, {"team": "a"})
    assert (record.started_at, record.ended_at, record.worker_id, record.result, record.error) == (None,) * 5
    assert before - 0.001 <= record.created_at <= await server_now(redis)
    assert record.start_by == pytest.approx(
        record.created_at + deployment.broker.tasks.start_within.total_seconds(), abs=0.002
    )


async def test_input_and_trace_are_kept_for_the_worker(deployment: Deployment) -> None:
    task = new_task(value={"n": 1}, trace={"traceparent": "00-1-2-01"})
    await deployment.broker.tasks.create(task)
    begun = await deployment.begin(task.ref)
    assert codec.unpack(begun.record.input) == {"n": 1}
    assert begun.record.trace == {"traceparent": "00-1-2-01"}


async def test_the_stream_begins_with_the_queued_event(deployment: Deployment) -> None:
    task = await deployment.create()
    (entry,) = await deployment.entries(task)
    assert (entry.id, entry.end) == (EntryId(0, 1), None)
    (event,) = await deployment.events(task)
    assert (event.type, event.attempt) == ("task.queued", 0)
    assert event.data == {"workflow": "echo", "version": "7"}


async def test_the_position_is_recorded_and_told(deployment: Deployment) -> None:
    task = new_task(position=3)
    made = await deployment.broker.tasks.create(task)
    assert (made.position, (await deployment.record(task.ref)).position) == (3, 3)
    (event,) = await deployment.events(task.ref)
    assert event.data == {"workflow": "echo", "version": "7", "position": 3}


async def test_created_again_nothing_changes(deployment: Deployment) -> None:
    task = new_task()
    await deployment.broker.tasks.create(task)
    await deployment.begin(task.ref)
    before = await deployment.record(task.ref), await deployment.entries(task.ref)
    await deployment.broker.tasks.create(task)
    assert (await deployment.record(task.ref), await deployment.entries(task.ref)) == before


async def test_record_and_stream_go_when_the_task_was_not_begun_in_time(deployment: Deployment) -> None:
    tasks = deployment.broker.tasks
    expected = (tasks.start_within + tasks.retention) / timedelta(milliseconds=1)
    for left in await deployment.ttl_ms(await deployment.create()):
        assert expected - 60_000 < left <= expected


async def test_a_discarded_task_leaves_nothing(deployment: Deployment) -> None:
    task = await deployment.create()
    await deployment.broker.tasks.discard(task)
    assert await deployment.ttl_ms(task) == (-2, -2)
    with pytest.raises(TaskNotFound) as caught:
        await deployment.record(task)
    assert caught.value.facts == {"task_id": task.task_id}


async def test_records_are_read_in_the_order_asked_for(deployment: Deployment, broker: Broker) -> None:
    first, second = await deployment.create("a"), await deployment.create("b")
    records = await broker.tasks.read_many([second, TaskRef(new_task_id()), first], SUMMARY_FIELDS)
    assert [record and record.workflow for record in records] == ["b", None, "a"]
    assert await broker.tasks.read_many([], SUMMARY_FIELDS) == []


async def test_a_task_of_another_tenant_is_another_task(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    other = TaskRef(task.task_id, "other")
    with pytest.raises(TaskNotFound):
        await broker.tasks.read(other)
    await broker.tasks.create(NewTask(other, "echo", "7", b"\xc0", session_id=SessionId("s")))
    assert (await deployment.record(other)).tenant == "other"
    assert (await deployment.record(task)).session_id is None


async def test_what_create_returns_is_the_record(deployment: Deployment, broker: Broker) -> None:
    task = NewTask(
        TaskRef(new_task_id()), "echo", "7", b"\xc0", new_session_id(), {"a": "b"}, {"traceparent": "00-1-2-01"}
    )
    made = await broker.tasks.create(task)
    assert made == (await deployment.record(task.ref))._replace(input=b"\xc0", trace=task.trace)
    assert (await broker.tasks.create(task)).created_at == made.created_at
