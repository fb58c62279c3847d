"""Whoever can write to Redis runs no code of theirs by it: what lies where stock arq keeps pickles is not unpickled."""

import asyncio
import pickle
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.constants import default_queue_name, job_key_prefix, result_key_prefix
from arq.jobs import DeserializationError, Job, deserialize_job

from tailplane.broker import Broker, TaskRef, WorkerRecord, WorkflowRecord
from tailplane.control_plane.queue import open_queue
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.ids import TaskId, new_worker_id
from tailplane.workers.queue import LeasedWorker
from tailplane.workers.workflow import workflow


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._mark,)


@workflow
async def echo(ctx: object, value: object) -> object:
    """Return what it is given."""
    return value


def job_of(bomb: Bomb) -> bytes:
    return pickle.dumps({"t": 1, "f": "echo", "a": (bomb,), "k": {}, "et": int(time.time() * 1000)})


async def test_the_bomb_goes_off_in_stock_arq(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    deserialize_job(job_of(Bomb(mark)))

    assert mark.exists()


async def test_a_worker_does_not_unpickle_what_lies_in_its_queue(
    broker: Broker, redis: ArqRedis, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    packed = job_of(Bomb(mark))
    task = TaskRef(TaskId("t_01jd3z0v9m6s8k2x4q7w5e1r0t"))
    claimed: list[Any] = []
    worker_id = new_worker_id()
    record = WorkflowRecord("echo", "1", "", {}, None, 1, None)
    await broker.queue.register(
        WorkerRecord(worker_id, "host", 1, "0", ["echo"], 1, 0), [record], timedelta(minutes=10)
    )
    # Wherever stock arq would look, and where ours does.
    due = broker.keys.due("echo")
    for key in (due, default_queue_name):
        await redis.zadd(key, {task.member: 1, "a-job": 1})
    for job in (task.member, "a-job"):
        await redis.set(job_key_prefix + job, packed)
        await redis.set(result_key_prefix + job, packed)

    async def run(claim: Any) -> None:
        claimed.append(claim)
        worker.pause()

    worker = LeasedWorker(broker, worker_id, [echo], run, concurrency=2, poll_every=timedelta(milliseconds=50))
    async with asyncio.timeout(30):
        await worker.main()
        await asyncio.gather(*worker.tasks.values(), return_exceptions=True)

    # It took what was there, and made nothing of the bytes.
    assert claimed
    assert not mark.exists()
    with pytest.raises(DeserializationError):
        deserialize_job(packed, deserializer=worker.job_deserializer)
    assert not mark.exists()


async def test_the_control_plane_s_client_neither_pickles_nor_unpickles(
    server: EmbeddedServer, prefix: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    async with open_queue(server.url, prefix) as queue:
        await queue.set(job_key_prefix + "a-job", job_of(Bomb(mark)))
        await queue.set(result_key_prefix + "a-job", job_of(Bomb(mark)))
        job = Job("a-job", queue, _deserializer=queue.job_deserializer)

        for ask in (job.info, job.result_info):
            with pytest.raises(DeserializationError):
                await ask()

    assert not mark.exists()
