"""Each call of the broker that `test_state_machine.py` makes, in the words of the model, and what there is to be seen.

One small function a call, so that a changed signature is mended here. What time does by itself (a lease that runs out,
a delay, a retention) is done to Redis directly.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from tailplane.broker import (
    Append,
    Broker,
    Claim,
    Closing,
    Entry,
    NewTask,
    Order,
    Refusal,
    Request,
    Room,
    SessionRef,
    TaskRef,
    Terms,
    Turn,
    WorkerRecord,
    WorkflowRecord,
    connect,
    parse_published,
)
from tailplane.broker.event_log import PUBLISH_BYTES
from tailplane.broker.memory import load
from tailplane.broker.parking import Parked
from tailplane.broker.records import OUTCOME_FIELDS
from tailplane.protocol import codec
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.events import PlatformType, join_events, pack_event, pack_platform_event, unpack_payload
from tailplane.protocol.ids import DEFAULT_TENANT, EntryId, SessionId, TaskId, WorkerId
from tailplane.protocol.ranges import joined
from tailplane.protocol.states import State, Trigger

from .model import (
    HOST,
    MOST_MESSAGES,
    RANKS,
    VERSION,
    Blocked,
    Finish,
    Holder,
    Kept,
    Limit,
    Line,
    Said,
    Seen,
    SeenQueue,
    Written,
)

K = TypeVar("K")
V = TypeVar("V")

RETENTION = timedelta(hours=1)
START_WITHIN = timedelta(minutes=30)
LEASE = timedelta(hours=1)
PATIENCE = 10
# Of a workflow's event that is too large to travel with the bell.
LARGE = "x" * PUBLISH_BYTES


def pack(fence: int, said: Sequence[Said]) -> list[bytes]:
    """Return events as they are stored in an entry of that fence."""
    return [
        pack_platform_event(PlatformType(type_), data, attempt=None if attempt == fence else attempt)
        if type_
        else pack_event(data)
        for attempt, type_, data in said
    ]


def unpack(entry: Entry, after: Cursor = 0) -> list[Said]:
    return [Said(event.attempt, event.type, event.data) for event in unpack_payload(entry.id, entry.payload, after)]


def flat(seqs: Iterable[int]) -> list[int]:
    """Return seqs as the record keeps them that stand."""
    return [seq for each in joined((seq, seq) for seq in seqs) for seq in each]


class Calls:
    """A deployment of its own on the server, and an ear on all its channels."""

    def __init__(self, broker: Broker, ear: PubSub) -> None:
        self.broker = broker
        self.ear = ear

    @classmethod
    async def open(cls, url: str) -> "Calls":
        redis = connect(url, Redis)
        prefix = f"machine-{uuid.uuid4().hex}"
        broker = Broker.over(redis, prefix=prefix, retention=RETENTION, start_within=START_WITHIN)
        ear = redis.pubsub(ignore_subscribe_messages=True)
        await ear.psubscribe(f"{prefix}:*")
        # It listens from its confirmation on.
        await ear.get_message(timeout=PATIENCE)
        return cls(broker, ear)

    async def close(self) -> None:
        """Leave nothing behind."""
        redis, prefix = self.broker.redis, self.broker.keys.prefix
        async for key in redis.scan_iter(f"{prefix}:*", count=1000):
            await redis.delete(key)
        await self.ear.aclose()
        await redis.aclose(close_connection_pool=True)

    # Tasks.

    async def create(self, task: TaskRef, workflow: str, listener: str | None) -> float:
        waiting = self.broker.keys.ends(listener) if listener else None
        made = await self.broker.tasks.create(NewTask(task, workflow, VERSION, codec.pack(None), waiting=waiting))
        return made.created_at

    async def begin(self, task: TaskRef, worker: WorkerId, takes_over: bool) -> tuple[EntryId, int, int]:
        begun = await self.broker.tasks.begin(task, worker, HOST, takes_over=takes_over)
        assert (begun.record.ref, begun.record.worker_id, begun.record.attempt) == (task, worker, begun.attempt)
        return begun.opening.id, begun.entries, begun.record.failures

    async def append(
        self, entries: Sequence[tuple[TaskRef, EntryId, Sequence[Said], int, WorkerId, Mapping[str, object]]]
    ) -> list[Refusal | None]:
        """Append to streams; the number is how many entries the writer, named behind it, believes there are before, and
        last comes what the record gets.
        """
        return await self.broker.log.append(
            [
                Append(task, entry, join_events(pack(entry.fence, said)), before, worker, _fields(kept))
                for task, entry, said, before, worker, kept in entries
            ]
        )

    async def deliver(self, task: TaskRef, message: str, key: str | None) -> tuple[int, bool]:
        delivered = await self.broker.inbox.deliver(task, None, message, key=key, most=MOST_MESSAGES)
        return delivered.number, delivered.is_new

    async def finish(self, task: TaskRef, finish: Finish) -> State:
        packed = pack(finish.attempt, finish.events)
        stand = {} if finish.stand is None else {"stand": flat(finish.stand)}
        closing = Closing(finish.trigger, finish.attempt, finish.after, packed, _fields({**finish.kept, **stand}))
        return await self.broker.tasks.finish(task, closing)

    async def end(
        self, task: TaskRef, trigger: Trigger, latest: int, last: Said, kept: Mapping[str, object]
    ) -> State | None:
        return await self.broker.tasks.end(
            task, trigger, latest, PlatformType(str(last.type)), last.data, _fields(kept)
        )

    async def wait_for(self, task: TaskRef, listener: str) -> State | None:
        record = await self.broker.tasks.wait_for(task, self.broker.keys.ends(listener))
        return record.state if record else None

    async def let_start_deadline_pass(self, task: TaskRef) -> None:
        await self._run("HSET", self.broker.keys.task(task), "start_by", 1)

    async def let_retention_pass(self, task: TaskRef) -> None:
        await self._run("DEL", self.broker.keys.task(task), self.broker.keys.stream(task))

    # Streams.

    async def read(self, task: TaskRef, after: Cursor, attempts: int, page: int) -> list[Said]:
        """Return what follows the cursor, read page by page."""
        log, said = self.broker.log, list[Said]()
        position = await log.locate(task, after, attempts)
        while True:
            (entries,) = await log.read_after([(task, position, page)])
            for entry in entries:
                said += unpack(entry, after)
            if len(entries) < page:
                return said
            position = entries[-1].id

    async def newest(self, task: TaskRef, count: int) -> Cursor:
        return await self.broker.log.newest(task, count)

    # The queue.

    async def open_session(self) -> SessionId:
        return (await self.broker.catalogue.create_session(DEFAULT_TENANT, {})).session_id

    async def close_session(self, session: SessionId) -> None:
        await self.broker.catalogue.close_session(DEFAULT_TENANT, session)

    async def enqueue(
        self,
        task: TaskRef,
        workflow: str,
        delay: timedelta,
        session: SessionId | None,
        request: tuple[str, str] | None,
        terms: Terms,
    ) -> tuple[TaskId, str]:
        made = await self.broker.queue.enqueue(
            task, workflow, delay=delay, session=session, request=Request(*request) if request else None, terms=terms
        )
        return made.task_id, made.content

    async def made_by(self, key: str) -> tuple[TaskId, str] | None:
        return await self.broker.queue.made_by(DEFAULT_TENANT, Request(key, ""))

    async def claim(
        self, worker: WorkerId, free: int, room: Mapping[str, int], bounds: Mapping[str, int], before: int
    ) -> tuple[list[tuple[TaskRef, str]], timedelta | None]:
        """Return what was claimed, and when the next task is due."""
        rooms = {workflow: Room(places, bounds.get(workflow)) for workflow, places in room.items()}
        claims = await self.broker.queue.claim(worker, free, rooms, Order([Turn(taken=before)]))
        assert all(claim.waited >= timedelta() for claim in claims.taken)
        return [(claim.task, claim.workflow) for claim in claims.taken], claims.next_due

    async def acknowledge(self, worker: WorkerId, task: TaskRef, workflow: str, has_terms: bool) -> None:
        await self.broker.queue.acknowledge(worker, Claim(task, workflow, timedelta(), has_terms))

    async def requeue(self, worker: WorkerId, task: TaskRef, workflow: str, delay: timedelta) -> bool:
        return await self.broker.queue.requeue(worker, Claim(task, workflow, timedelta()), delay)

    async def withdraw(self, task: TaskRef, workflow: str, worker: WorkerId | None) -> None:
        await self.broker.queue.withdraw(task, workflow, worker)

    async def park(self, worker: WorkerId, task: TaskRef, workflow: str) -> bool:
        return await self.broker.parking.park(worker, Claim(task, workflow, timedelta()), None)

    async def unpark(self, task: TaskRef, workflow: str) -> bool:
        return await self.broker.parking.unpark(Parked(task, workflow))

    async def admit(self) -> int:
        given, next_ = await self.broker.queue.admit(1000)
        assert next_ == 0
        return given

    async def register(self, worker: WorkerId, workflows: Sequence[str]) -> None:
        record = WorkerRecord(worker, HOST, 42, "0.1.0", list(workflows), 10, started_at=0)
        flows = [WorkflowRecord(name, VERSION, "", {}, None, 3, None) for name in workflows]
        await self.broker.queue.register(record, flows, LEASE)

    async def renew(self, worker: WorkerId) -> int:
        return await self.broker.queue.renew(worker, LEASE)

    async def let_lease_lapse(self, worker: WorkerId) -> None:
        await self._run("ZADD", self.broker.keys.workers, "XX", 1, worker)

    async def reap(self, worker: WorkerId, leaves: bool) -> int:
        return await self.broker.queue.reap(worker, leaves=leaves)

    async def wake(self, workflow: str) -> None:
        """Wait for work, as an idle worker does; there is a token."""
        await asyncio.wait_for(self.broker.queue.wait([workflow], LEASE), PATIENCE)

    async def let_delay_pass(self, task: TaskRef, line: Line, due: int) -> None:
        await self._run("ZADD", self._key_of(line), "XX", due, task.member)

    def _key_of(self, line: Line) -> str:
        workflow, rank = line
        return self.broker.keys.queue_of(workflow)[rank]

    # What there is to be seen.

    async def now(self) -> int:
        """Return the server's time, ms."""
        seconds, micros = await self._run("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def look(self, tasks: Sequence[TaskRef]) -> list[tuple[Seen | None, list[timedelta | None]]]:
        """Return what there is of each task, None where there is nothing, and how long record and stream are kept."""
        return await asyncio.gather(*(self._look(task) for task in tasks))

    async def _look(self, task: TaskRef) -> tuple[Seen | None, list[timedelta | None]]:
        broker, keys = self.broker, self.broker.keys
        (record,), memory, (entries,), given_back_by, *left = await asyncio.gather(
            broker.tasks.read_many([task], OUTCOME_FIELDS),
            load(broker.tasks.wire, keys, task),
            broker.log.read_after([(task, EntryId(0, 0), 100_000)]),
            self._run("HGET", keys.task(task), "given_back_by"),
            self._run("PTTL", keys.task(task)),
            self._run("PTTL", keys.stream(task)),
        )
        kept_for = [None if ms == -1 else timedelta(milliseconds=ms) for ms in left]
        if record is None:
            assert entries == []
            return None, kept_for
        kept = {"result": codec.unpack(record.result)} if record.result else {}
        seen = Seen(
            record.state,
            record.attempt,
            record.failures,
            record.worker_id,
            record.superseded,
            (given_back_by or b"").decode(),
            kept | ({"error": record.error} if record.error else {}),
            record.started_at is not None,
            record.ended_at is not None,
            {seq for first, last in memory.stand for seq in range(first, last + 1)},
            {name: codec.unpack(value) for name, value in memory.state.items()},
            [message.data for message in memory.messages],
            [entry.id for entry in entries],
            [Written(entry.id.fence, unpack(entry), State(entry.end) if entry.end else None) for entry in entries],
        )
        return seen, kept_for

    async def look_at_queue(
        self, workers: Sequence[WorkerId], workflows: Sequence[str], sessions: Sequence[SessionId]
    ) -> SeenQueue:
        """Return what there is of the queue."""
        queue, catalogue = self.broker.queue, self.broker.catalogue
        return SeenQueue(
            *await asyncio.gather(
                self._leases(),
                _each(workers, queue.held),
                _each([(workflow, rank) for workflow in workflows for rank in RANKS], self.due),
                _each(workflows, lambda workflow: queue.overdue(workflow, timedelta(), 1000)),
                _each(workflows, queue.depth),
                _each(workflows, self._tokens),
                self.kept(),
                self.blocked(),
                self._holders(),
                self._limits(),
                self._parked(),
                _each([None, *sessions], lambda session: catalogue.task_ids(DEFAULT_TENANT, session, None, 1000)),
                _each(sessions, self._joined),
            )
        )

    async def _joined(self, session: SessionId) -> list[TaskId]:
        (look,) = await self.broker.joins.look([(SessionRef(session), 1, 1000)])
        assert [join.number for join in look.joined] == list(range(1, len(look.joined) + 1))
        return [join.task.task_id for join in look.joined]

    async def _leases(self) -> dict[WorkerId, bool]:
        described, lapsed = await asyncio.gather(self.broker.queue.workers(), self.broker.queue.lapsed())
        return {each.worker_id: each.worker_id not in lapsed for each in described}

    async def due(self, line: Line) -> dict[TaskRef, int]:
        """Return when each task of a workflow and class is due, ms by the server's clock."""
        rows = await self._run("ZRANGE", self._key_of(line), 0, -1, "WITHSCORES")
        return {TaskRef.from_member(rows[i]): int(rows[i + 1]) for i in range(0, len(rows), 2)}

    async def kept(self) -> dict[TaskRef, Kept]:
        rows = await self._run("HGETALL", self.broker.keys.terms)
        found = {}
        for member, value in zip(rows[::2], rows[1::2], strict=True):
            rank, limit, key, due = value.decode().split("\n")
            kept = Kept(int(rank), key or None, int(limit) if limit else None, int(due) if due else None)
            found[TaskRef.from_member(member)] = kept
        return found

    async def blocked(self) -> set[Blocked]:
        rows = await self._run("ZRANGE", self.broker.keys.blocked, 0, -1)
        entries = [row.decode().split("\n") for row in rows]
        return {Blocked(workflow, key, int(at[0]), int(at[1:]), member) for workflow, key, at, member in entries}

    async def _holders(self) -> set[Holder]:
        rows = await self._run("ZRANGE", self.broker.keys.holders, 0, -1)
        entries = [row.decode().split("\n") for row in rows]
        return {Holder(key, TaskRef.from_member(member.encode()), worker) for key, member, worker in entries}

    async def _parked(self) -> dict[TaskRef, str]:
        return {parked.task: parked.workflow for parked in await self.broker.parking.page(0, 1000)}

    async def _limits(self) -> dict[str, Limit]:
        rows = await self._run("HGETALL", self.broker.keys.limits)
        found = {}
        for key, value in zip(rows[::2], rows[1::2], strict=True):
            limit, *workflows = value.decode().split("\n")
            assert len(set(workflows)) == len(workflows)
            found[key.decode()] = Limit(int(limit), frozenset(workflows))
        return found

    async def _tokens(self, workflow: str) -> int:
        """Return how many workers the doorbell would wake; it keeps its tokens, however slow the machine is."""
        doorbell = self.broker.keys.doorbell(workflow)
        _, count = await asyncio.gather(self._run("PERSIST", doorbell), self._run("LLEN", doorbell))
        return int(count)

    async def heard(self, tasks: Sequence[TaskRef]) -> tuple[dict[TaskRef, list[int]], dict[str, list[str]]]:
        """Return what was published since the last look.

        Returns:
            Of each task the seqs that its bell has told of, and of each listener the records it was told of.
        """
        keys = self.broker.keys
        last, rung, told = (
            f"{keys.prefix}:last",
            {task: list[int]() for task in tasks},
            defaultdict[str, list[str]](list),
        )
        tasks_of = {keys.bell(task): task for task in tasks}
        await self._run("PUBLISH", last, "")
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.ear.get_message(timeout=PATIENCE) or {"channel": b"", "data": b""}
                channel, data = message["channel"].decode(), message["data"]
                if channel == last:
                    return rung, dict(told)
                if channel in tasks_of:
                    rung[tasks_of[channel]].append(await self._seq(tasks_of[channel], data))
                elif channel:
                    told[channel.rpartition(":")[2]].append(data.decode())

    async def _seq(self, task: TaskRef, message: bytes) -> int:
        """Return the seq that a bell tells of; the entry that came along, if any, must be the stream's."""
        published = parse_published(message)
        if published is None:
            return int(message.rpartition(b"-")[2])
        key = self.broker.keys.stream(task)
        rows = await self._run("XRANGE", key, str(published.id), str(published.id))
        assert [fields[1] for _, fields in rows] == [published.payload]
        return published.id.seq

    async def _run(self, *command: str | bytes | int) -> Any:
        return await self.broker.log.wire.run(*command)


def _fields(kept: Mapping[str, object]) -> list[bytes | str]:
    return [item for name, value in kept.items() for item in (name, codec.pack(value))]


async def _each(names: Sequence[K], look: Callable[[K], Awaitable[V]]) -> dict[K, V]:
    """Return what there is under each name."""
    return dict(zip(names, await asyncio.gather(*map(look, names)), strict=True))
