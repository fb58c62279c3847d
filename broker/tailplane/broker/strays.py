"""Strays: tasks that have not ended by their record, and that the queue does not know: nobody would ever run them.

Record and queue may stand on two servers. One of them that was restored from a backup, or that lost its last moments in
a failover, leaves such tasks. An operator looks for them (`tailplane reconcile`): it reads every record, which takes a
while and a part of Redis' time, so that nothing does it by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from tailplane.broker.broker import Broker
from tailplane.broker.connection import store_errors
from tailplane.broker.keys import TaskRef
from tailplane.broker.parking import Parked
from tailplane.broker.records import TERMS_FIELDS, TaskRecord
from tailplane.protocol.states import State

# Records that are looked at together: others wait for so long.
PAGE = 500
# Seconds between the two looks at a stray: a task on its way from one place of the queue to another is none.
SETTLE = 3.0

_FIELDS = ("task_id", "tenant", "workflow", "state", "attempt", "created_at", "due_at", *TERMS_FIELDS)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at all records found.

    Attributes:
        records: how many there are.
        strays: those that have not ended and that the queue does not know, in no order.
    """

    records: int
    strays: list[TaskRecord]


async def survey(broker: Broker, servers: Sequence[Redis], *, mend: bool, settle: float = SETTLE) -> Survey:
    """Look at every record; with `mend`, queue the strays again, and put what the lists have lost back onto them.

    Doing it twice changes nothing, and neither does doing it while all is well. A task that is queued again keeps its
    stream: its next attempt goes on behind what is there.

    Args:
        servers: those that have the records, each once.
        settle: seconds between the two looks that each stray gets.
    Raises:
        StoreUnavailable: Redis does not answer; what was mended until then stays mended.
    """
    count, candidates = 0, list[TaskRecord]()
    for server in servers:
        async for tasks in _scan(server, broker.keys.prefix):
            found = [record for record in await broker.tasks.read_many(tasks, _FIELDS) if record]
            count += len(found)
            candidates += await _unknown(broker, found)
            if mend:
                await _list(broker, found)
    if candidates:
        await asyncio.sleep(settle)
    strays = await _still_strays(broker, candidates)
    if mend:
        now = await broker.queue.now_ms() / 1000
        for stray in strays:
            # One that was put off stays so.
            delay = timedelta(seconds=max(0.0, (stray.due_at or 0.0) - now))
            await broker.queue.enqueue(stray.ref, stray.workflow, delay=delay, terms=stray.terms)
    return Survey(count, strays)


async def _still_strays(broker: Broker, candidates: Sequence[TaskRecord]) -> list[TaskRecord]:
    strays: list[TaskRecord] = []
    for begin in range(0, len(candidates), PAGE):
        page = [record.ref for record in candidates[begin : begin + PAGE]]
        again = [record for record in await broker.tasks.read_many(page, _FIELDS) if record]
        strays += await _unknown(broker, again)
    return strays


async def _scan(server: Redis, prefix: str) -> AsyncIterator[list[TaskRef]]:
    cursor = 0
    while True:
        with store_errors():
            cursor, keys = await server.scan(cursor, match=f"{prefix}:*:task:*", count=PAGE, _type="hash")
        if keys:
            yield [_task_of(key, prefix) for key in keys]
        if cursor == 0:
            return


def _task_of(key: bytes | str, prefix: str) -> TaskRef:
    text = key if isinstance(key, str) else key.decode()
    tenant, _, task = text.removeprefix(f"{prefix}:").split(":", 2)
    return TaskRef.from_member(f"{tenant}/{task.strip('{}')}".encode())


async def _unknown(broker: Broker, records: Sequence[TaskRecord]) -> list[TaskRecord]:
    """Return those that should be in the queue and are not."""
    wanted = [record for record in records if not record.state.is_terminal]
    if not wanted:
        return []
    # In this order: what is claimed in between is seen as held. What is given back then, or parked, is seen by the next
    # look. One that is parked and does not wait by its record is known, too: control planes mind it.
    parked = await broker.parking.are_parked([Parked(each.ref, each.workflow) for each in wanted])
    waits = await broker.queue.waits([(each.ref, each.workflow) for each in wanted])
    held: set[TaskRef] = set()
    for worker in await broker.queue.workers():
        held |= (await broker.queue.held(worker.worker_id)).keys()
    return [
        record
        for record, is_there, is_parked in zip(wanted, waits, parked, strict=True)
        if not is_there and not is_parked and record.ref not in held
    ]


async def _list(broker: Broker, records: Sequence[TaskRecord]) -> None:
    for tenant in {record.tenant for record in records}:
        await broker.tenants.note(tenant)
        await broker.catalogue.note_tasks(tenant, [each.task_id for each in records if each.tenant == tenant])
    for record in records:
        if record.state is State.FAILED:
            await broker.catalogue.note_dead(record.ref)
