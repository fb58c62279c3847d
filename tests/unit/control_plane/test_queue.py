from datetime import timedelta

import pytest

from tailplane.broker import Broker, NewTask, Request, TaskRef, WorkerRecord
from tailplane.control_plane.queue import TaskQueue
from tailplane.protocol import codec
from tailplane.protocol.errors import IdempotencyConflict
from tailplane.protocol.ids import WorkerId, new_task_id, new_worker_id


@pytest.fixture
async def worker(broker: Broker) -> WorkerId:
    worker = WorkerRecord(new_worker_id(), "h", 1, "0", ["a", "b"], 1, 0)
    await broker.queue.register(worker, [], timedelta(minutes=1))
    return worker.worker_id


async def recorded(broker: Broker) -> TaskRef:
    task = NewTask(TaskRef(new_task_id()), "a", "1", codec.pack(None))
    await broker.tasks.create(task)
    return task.ref


async def test_a_job_lands_in_its_workflows_queue_and_rings(queue: TaskQueue, broker: Broker, worker: WorkerId) -> None:
    task = await recorded(broker)

    job = await queue.enqueue_job("a", _job_id=task.member)

    assert job.job_id == task.member
    assert await queue.llen(broker.keys.doorbell("a")) == 1  # type: ignore[misc]
    assert (await broker.queue.claim(worker, 1, {"b": 1})).taken == []
    assert [claim.task for claim in (await broker.queue.claim(worker, 1, {"a": 1})).taken] == [task]


async def test_nothing_is_pickled(queue: TaskQueue, broker: Broker) -> None:
    task = await recorded(broker)

    await queue.enqueue_job("a", _job_id=task.member)

    assert [key async for key in queue.scan_iter("arq:*")] == []


async def test_a_deferred_job_is_due_later(queue: TaskQueue, broker: Broker, worker: WorkerId) -> None:
    task = await recorded(broker)

    await queue.enqueue_job("a", _job_id=task.member, _defer_by=timedelta(hours=1))
    claims = await broker.queue.claim(worker, 1, {"a": 1})

    assert claims.taken == []
    assert claims.next_due
    assert claims.next_due > timedelta(minutes=59)


async def test_the_job_of_a_repeated_request_is_the_first_ones(queue: TaskQueue, broker: Broker) -> None:
    first, second = await recorded(broker), await recorded(broker)

    await queue.enqueue_job("a", _job_id=first.member, request=Request("key", "content"))
    job = await queue.enqueue_job("a", _job_id=second.member, request=Request("key", "content"))

    assert job.job_id == first.member


async def test_another_request_with_the_key_is_a_conflict(queue: TaskQueue, broker: Broker) -> None:
    first, second = await recorded(broker), await recorded(broker)
    await queue.enqueue_job("a", _job_id=first.member, request=Request("key", "content"))

    with pytest.raises(IdempotencyConflict):
        await queue.enqueue_job("a", _job_id=second.member, request=Request("key", "other"))
