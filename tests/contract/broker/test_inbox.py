"""deliver.lua: a message is in the inbox once, in its order, until the task takes none any more."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, TaskRef
from tailplane.broker.inbox import Delivered
from tailplane.broker.memory import Message, load
from tailplane.protocol.errors import (
    IdempotencyConflict,
    InboxFull,
    StoreUnavailable,
    TaskEnded,
    TaskNotFound,
    Unserialisable,
)
from tailplane.protocol.ids import new_task_id
from tailplane.protocol.states import State, Trigger

from .conftest import Deployment


async def test_messages_are_numbered_in_the_order_in_which_they_come(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    delivered = [
        await broker.inbox.deliver(task, type_, data) for type_, data in (("a", 1), (None, {"b": 2}), ("a", 1))
    ]
    assert delivered == [Delivered(number, True, State.QUEUED, None, "echo") for number in (1, 2, 3)]
    expected = [Message(1, "a", 1), Message(2, None, {"b": 2}), Message(3, "a", 1)]
    assert await broker.inbox.read(task, 0) == expected
    assert await broker.inbox.read(task, 2) == expected[2:]
    assert await broker.inbox.read(task, 3) == []
    assert (await load(broker.tasks.wire, broker.keys, task)).messages == expected


async def test_who_delivers_is_told_how_the_task_stands(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    running = await broker.inbox.deliver(task, "a", 1)
    assert (running.state, running.worker) == (State.RUNNING, deployment.worker)
    await deployment.finish(begun, Trigger.WAIT)
    assert (await broker.inbox.deliver(task, "a", 1)).state is State.WAITING


async def test_the_same_key_and_message_are_one_message(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    first = await broker.inbox.deliver(task, "a", 1, key="k")
    await broker.inbox.deliver(task, "b", 2)
    again = await broker.inbox.deliver(task, "a", 1, key="k")
    assert (first.number, first.is_new, again.number, again.is_new) == (1, True, 1, False)
    assert await broker.inbox.count(task) == 2


async def test_the_same_key_at_the_same_time_is_one_message(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    many = await asyncio.gather(*(broker.inbox.deliver(task, "a", 1, key="k") for _ in range(20)))
    assert {each.number for each in many} == {1}
    assert sum(each.is_new for each in many) == await broker.inbox.count(task) == 1


@pytest.mark.parametrize(("type_", "data"), [("a", 2), ("b", 1), (None, 1)])
async def test_the_same_key_with_another_message_is_a_conflict(
    deployment: Deployment, broker: Broker, type_: str | None, data: int
) -> None:
    task = await deployment.create()
    await broker.inbox.deliver(task, "a", 1, key="k")
    with pytest.raises(IdempotencyConflict):
        await broker.inbox.deliver(task, type_, data, key="k")
    assert await broker.inbox.count(task) == 1


async def test_a_full_inbox_takes_what_it_knows_and_nothing_more(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    for number in (1, 2):
        await broker.inbox.deliver(task, "a", number, key=f"{number}", most=2)
    with pytest.raises(InboxFull):
        await broker.inbox.deliver(task, "a", 3, most=2)
    assert (await broker.inbox.deliver(task, "a", 2, key="2", most=2)).number == 2
    assert await broker.inbox.count(task) == 2


async def test_an_inbox_is_full_by_its_bytes_too(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    for number in (1, 2):
        await broker.inbox.deliver(task, "a", "x" * 400, key=f"{number}", most_bytes=1000)
    with pytest.raises(InboxFull) as full:
        await broker.inbox.deliver(task, "a", "x" * 400, most_bytes=1000)
    assert full.value.facts["limit"] == 1000
    assert (await broker.inbox.deliver(task, "a", "x" * 400, key="2", most_bytes=1000)).number == 2
    # What is not the application's own has room all the same.
    assert await broker.deliveries.note_ended(task, new_task_id())
    assert (await broker.inbox.deliver(task, "a", "x", most_bytes=1000)).number == 4


@pytest.mark.parametrize("trigger", [Trigger.SUCCEED, Trigger.FAIL, Trigger.CANCEL])
async def test_an_ended_task_takes_what_it_knows_and_nothing_more(
    deployment: Deployment, broker: Broker, trigger: Trigger
) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await broker.inbox.deliver(task, "a", 1, key="k")
    state = await deployment.finish(begun, trigger)
    with pytest.raises(TaskEnded):
        await broker.inbox.deliver(task, "a", 2)
    again = await broker.inbox.deliver(task, "a", 1, key="k")
    assert (again.number, again.state) == (1, state)


async def test_there_is_no_inbox_without_a_task(broker: Broker, redis: Redis) -> None:
    with pytest.raises(TaskNotFound):
        await broker.inbox.deliver(TaskRef(new_task_id()), "a", 1)
    assert await redis.keys(f"{broker.keys.prefix}:*") == []


async def test_what_can_t_be_carried_is_refused_before(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    with pytest.raises(Unserialisable):
        await broker.inbox.deliver(task, "a", {1, 2})
    assert await broker.inbox.count(task) == 0


async def test_a_message_is_kept_for_as_long_as_its_task(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    before, _ = await deployment.ttl_ms(task)
    await broker.inbox.deliver(task, "a", 1)
    after, _ = await deployment.ttl_ms(task)
    assert before - 60_000 < after <= before
    begun = await deployment.begin(task)
    await broker.inbox.deliver(task, "a", 1)
    assert await deployment.ttl_ms(task) == (-1, -1)
    await deployment.finish(begun)
    assert 0 < (await deployment.ttl_ms(task))[0] <= broker.tasks.retention / timedelta(milliseconds=1)


async def test_many_messages_are_read_in_pages(deployment: Deployment, broker: Broker) -> None:
    task = await deployment.create()
    for _ in range(12):
        # All of them at once may take a busy machine longer than a command may take.
        await asyncio.gather(*(broker.inbox.deliver(task, "a", None) for _ in range(100)))
    read: list[Message] = []
    while page := await broker.inbox.read(task, len(read)):
        read += page
        assert len(page) <= 500
    assert [message.number for message in read] == list(range(1, 1201))


async def test_a_lost_reply_and_a_second_delivery_are_one_message(
    deployment: Deployment, lossy_broker: Broker, lose_next_reply: Callable[[], None]
) -> None:
    task = await deployment.create()
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await lossy_broker.inbox.deliver(task, "a", 1, key="k")
    again = await lossy_broker.inbox.deliver(task, "a", 1, key="k")
    assert (again.number, again.is_new) == (1, False)
