"""Parked tasks come back when their time has come, when a message was missed, or when they should not lie there."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from tailplane.broker import Broker, Claim, Closing, NewTask, TaskRef, WorkerRecord
from tailplane.broker.memory import CHILDREN, INBOX_SEEN
from tailplane.broker.parking import Parked
from tailplane.broker.records import Parent
from tailplane.control_plane import parked as module
from tailplane.control_plane.clock import ServerClock
from tailplane.control_plane.parked import LOOK_EVERY, ParkedMinder
from tailplane.protocol import codec
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.events import PlatformType, pack_platform_event
from tailplane.protocol.ids import WorkerId, new_task_id, new_worker_id
from tailplane.protocol.states import Trigger

from .test_fleet import MINUTE


@dataclass
class Ward:
    """Parks tasks as a worker does."""

    broker: Broker
    worker: WorkerId

    async def wait(self) -> Claim:
        """Return a task whose record says that it waits, and that the worker holds yet."""
        broker, task = self.broker, TaskRef(new_task_id())
        await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
        await broker.queue.enqueue(task, "a")
        (claim,) = (await broker.queue.claim(self.worker, 1, {"a": 1})).taken
        begun = await broker.tasks.begin(task, self.worker, "host-1")
        last = pack_platform_event(PlatformType.PARKED, {})
        known = await broker.inbox.count(task)
        await broker.tasks.finish(task, Closing(Trigger.WAIT, 1, begun.seq, [last], [INBOX_SEEN, str(known)]))
        return claim

    async def park(self, until: float | None = None) -> TaskRef:
        claim = await self.wait()
        assert await self.broker.parking.park(self.worker, claim, until)
        return claim.task

    async def due(self) -> list[TaskRef]:
        """Return what is queued, in no order, and leave it there."""
        rows = await self.broker.redis.zrange(self.broker.keys.due("a"), 0, -1)
        return [TaskRef.from_member(row) for row in rows]


def minder_of(broker: Broker) -> ParkedMinder:
    return ParkedMinder(broker, ServerClock(broker.queue.wire))


@pytest.fixture
async def ward(broker: Broker) -> Ward:
    worker = new_worker_id()
    await broker.queue.register(WorkerRecord(worker, "h", 1, "0", ["a"], 1, 0), [], MINUTE)
    return Ward(broker, worker)


async def test_what_is_due_comes_back_and_the_rest_stays(ward: Ward, broker: Broker) -> None:
    now = await broker.queue.now_ms() / 1000
    late, later = await ward.park(now - 1), await ward.park(now - 2)
    await ward.park(now + 60)
    await ward.park(None)
    minder = minder_of(broker)
    assert await minder.wake_due() == 2
    assert set(await ward.due()) == {late, later}
    assert await minder.wake_due() == 0


async def test_however_many_are_due_all_come_back(ward: Ward, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    for _ in range(5):
        await ward.park(1.0)
    many = await asyncio.gather(*(minder_of(broker).wake_due() for _ in range(3)))
    assert (sum(many), len(await ward.due())) == (5, 5)


async def test_a_missed_message_is_found(ward: Ward, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    tasks = [await ward.park() for _ in range(5)]
    # By somebody who died before he could wake it.
    await broker.inbox.deliver(tasks[3], "a", 1)
    minder = minder_of(broker)
    # A page in each call.
    found = [await minder.find_missed() for _ in range(3)]
    assert (sum(found), await ward.due()) == (1, [tasks[3]])


async def test_what_the_task_knew_of_when_it_was_parked_is_no_missed_message(ward: Ward, broker: Broker) -> None:
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
    await broker.inbox.deliver(task, "other", 1)
    await broker.queue.enqueue(task, "a")
    (claim,) = (await broker.queue.claim(ward.worker, 1, {"a": 1})).taken
    begun = await broker.tasks.begin(task, ward.worker, "host-1")
    last = pack_platform_event(PlatformType.PARKED, {})
    await broker.tasks.finish(task, Closing(Trigger.WAIT, 1, begun.seq, [last], [INBOX_SEEN, "1"]))
    await broker.parking.park(ward.worker, claim, None)
    assert await minder_of(broker).find_missed() == 0
    await broker.inbox.deliver(task, "other", 2)
    assert await minder_of(broker).find_missed() == 1


async def test_one_that_does_not_wait_by_its_record_comes_back(ward: Ward, broker: Broker) -> None:
    ended, running, gone, waiting = [await ward.park() for _ in range(4)]
    # Ended by somebody who died before he could take it from there.
    await broker.tasks.end(ended, Trigger.CANCEL, 1, PlatformType.CANCELLED, {"reason": None})
    # A failover has lost that it waits.
    await broker.redis.hset(broker.keys.task(running), "state", "running")  # type: ignore[misc]
    await broker.tasks.discard(gone)
    assert await minder_of(broker).find_missed() == 3
    assert set(await ward.due()) == {ended, running, gone}
    assert await broker.parking.page(0, 10) == [Parked(waiting, "a")]


async def test_one_whose_parent_has_ended_comes_back(ward: Ward, broker: Broker) -> None:
    # Its worker could not cancel it: as where the child's shard was away.
    lives, ended, gone = [await ward.park() for _ in range(3)]
    of_living, of_ended, of_gone = [await ward.park() for _ in range(3)]
    for parent, child in ((lives, of_living), (ended, of_ended), (gone, of_gone)):
        packed = codec.pack(Parent(parent.task_id, 1))
        await broker.redis.hset(broker.keys.task(child), "parent", packed)  # type: ignore[misc]
    await broker.tasks.end(ended, Trigger.CANCEL, 1, PlatformType.CANCELLED, {"reason": None})
    await broker.tasks.discard(gone)
    for parent in (ended, gone):
        await broker.parking.unpark(Parked(parent, "a"))
    assert await minder_of(broker).find_missed() == 2
    assert set(await ward.due()) == {ended, gone, of_ended, of_gone}


async def test_messages_are_looked_for_once_in_a_while(ward: Ward, broker: Broker) -> None:
    task = await ward.park()
    await broker.inbox.deliver(task, "a", 1)
    minder = minder_of(broker)
    for _ in range(LOOK_EVERY - 1):
        await minder.mind()
    assert (minder.woken, minder.found) == (0, 0)
    await minder.mind()
    assert (minder.woken, minder.found) == (0, 1)


class _Away:
    """Streams one shard of which does not answer."""

    def __init__(self, inner: Any, key: str) -> None:
        self._inner, self._key = inner, key

    async def call(self, commands: list[Any]) -> list[Any]:
        replies = await self._inner.call(commands)
        return [
            StoreUnavailable("away") if command[1] == self._key else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_the_tasks_of_a_shard_that_is_away_stay_and_the_others_go_on(ward: Ward, broker: Broker) -> None:
    away, here = await ward.park(), await ward.park()
    for task in (away, here):
        await broker.inbox.deliver(task, "a", 1)
    object.__setattr__(broker.tasks, "wire", _Away(broker.tasks.wire, broker.keys.task(away)))
    assert await minder_of(broker).find_missed() == 1
    assert await ward.due() == [here]


async def test_a_child_whose_shard_is_away_keeps_no_other_task_waiting(ward: Ward, broker: Broker) -> None:
    parent, here, child = await ward.park(), await ward.park(), TaskRef(new_task_id())
    await broker.redis.hset(broker.keys.task(parent), CHILDREN, codec.pack([child.task_id]))  # type: ignore[misc]
    await broker.inbox.deliver(here, "a", 1)
    streams = broker.tasks.wire
    object.__setattr__(broker.tasks, "wire", _Away(streams, broker.keys.task(child)))
    assert await minder_of(broker).find_missed() == 1
    assert await ward.due() == [here]
    # It is gone: whoever ended it has died before he could tell its parent.
    object.__setattr__(broker.tasks, "wire", streams)
    assert await minder_of(broker).find_missed() == 1
    assert set(await ward.due()) == {here, parent}
    (told,) = await broker.inbox.read(parent, 0)
    assert (told.type, told.data) == ("task.ended", {"task_id": child.task_id})


async def test_a_child_whose_end_the_task_knew_of_does_not_wake_it_again_and_again(ward: Ward, broker: Broker) -> None:
    # As where its code has given up on the child, and waits for something else.
    task, child = TaskRef(new_task_id()), new_task_id()
    await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
    await broker.deliveries.tell_parent(Parent(task.task_id, 1), task.tenant, child)
    await broker.queue.enqueue(task, "a")
    (claim,) = (await broker.queue.claim(ward.worker, 1, {"a": 1})).taken
    begun = await broker.tasks.begin(task, ward.worker, "host-1")
    last = pack_platform_event(PlatformType.PARKED, {})
    fields: list[bytes | str] = [INBOX_SEEN, "1", CHILDREN, codec.pack([child])]
    await broker.tasks.finish(task, Closing(Trigger.WAIT, 1, begun.seq, [last], fields))
    await broker.parking.park(ward.worker, claim, None)
    assert await minder_of(broker).find_missed() == 0


class TestDeliveries:
    async def test_no_caller_s_key_stands_in_the_way_of_a_child_s_end(self, ward: Ward, broker: Broker) -> None:
        task, child = await ward.park(), new_task_id()
        await broker.deliveries.deliver(task, "a", 1, key=f"task.ended:{child}")
        await broker.deliveries.tell_parent(Parent(task.task_id, 1), task.tenant, child)
        assert [message.type for message in await broker.inbox.read(task, 0)] == ["a", "task.ended"]

    async def test_a_parked_task_is_woken(self, ward: Ward, broker: Broker) -> None:
        task = await ward.park()
        await broker.deliveries.deliver(task, "a", 1)
        assert await ward.due() == [task]

    async def test_who_delivers_again_wakes_it_too(self, ward: Ward, broker: Broker) -> None:
        task = await ward.park()
        # The first one died in between.
        await broker.inbox.deliver(task, "a", 1, key="k")
        delivered = await broker.deliveries.deliver(task, "a", 1, key="k")
        assert (delivered.is_new, await ward.due()) == (False, [task])

    async def test_one_that_is_not_parked_yet_is_left_to_its_worker(self, ward: Ward, broker: Broker) -> None:
        claim = await ward.wait()
        await broker.deliveries.deliver(claim.task, "a", 1)
        assert await ward.due() == []
        assert claim.task in await broker.queue.held(ward.worker)

    async def test_the_worker_of_a_running_task_is_told(self, ward: Ward, broker: Broker) -> None:
        task = TaskRef(new_task_id())
        await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
        await broker.tasks.begin(task, ward.worker, "host-1")
        async with broker.redis.pubsub() as ear:
            await ear.subscribe(broker.keys.control(ward.worker))
            assert await ear.get_message(timeout=30)
            await broker.deliveries.deliver(task, "a", 1)
            message = await ear.get_message(ignore_subscribe_messages=True, timeout=30)
        assert codec.unpack(message["data"]) == [task.member, None, "message"]

    async def test_a_queued_task_needs_nobody(self, broker: Broker) -> None:
        task = TaskRef(new_task_id())
        await broker.tasks.create(NewTask(task, "a", "1", codec.pack(None)))
        assert (await broker.deliveries.deliver(task, "a", 1)).number == 1
