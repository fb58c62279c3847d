"""Tasks of several tenants, recorded and queued without the HTTP API, which would take longer than what is measured."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from redis.asyncio import Redis

from tailplane.broker import Broker, NewTask, TaskRecord, TaskRef, connect
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.deploy.cluster import LocalCluster
from tailplane.protocol import codec
from tailplane.protocol.ids import new_task_id

_AT_ONCE = 250
PATIENCE = 60


@asynccontextmanager
async def broker_of(cluster: LocalCluster) -> AsyncIterator[Broker]:
    redis = connect(cluster.redis_url, Redis)
    try:
        yield Broker.over(redis, prefix="tailplane", retention=timedelta(hours=1), start_within=timedelta(hours=1))
    finally:
        await redis.aclose(close_connection_pool=True)


async def queue_tasks(broker: Broker, tenant: str, workflow: str, inputs: Iterable[object]) -> list[TaskRef]:
    """Record and queue a task for each input."""

    async def queue_one(value: object) -> TaskRef:
        task = TaskRef(new_task_id(), tenant)
        await broker.tasks.create(NewTask(task, workflow, "", codec.pack(value)))
        await broker.queue.enqueue(task, workflow)
        return task

    values, tasks = list(inputs), list[TaskRef]()
    for begin in range(0, len(values), _AT_ONCE):
        tasks += await asyncio.gather(*map(queue_one, values[begin : begin + _AT_ONCE]))
    return tasks


async def ended(broker: Broker, tasks: Sequence[TaskRef]) -> list[TaskRecord]:
    """Return the tasks' records when all have ended."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = [record for record in await broker.tasks.read_many(tasks, SUMMARY_FIELDS) if record is not None]
            if len(found) == len(tasks) and all(record.state.is_terminal for record in found):
                return found
            await asyncio.sleep(0.02)
