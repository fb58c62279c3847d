"""One deployment, and one worker of it that does what the test says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import (
    PLAIN,
    Append,
    Begun,
    Broker,
    Claim,
    Closing,
    Entry,
    NewTask,
    TaskRecord,
    TaskRef,
    Terms,
    WorkerRecord,
    WorkflowRecord,
)
from tailplane.broker.schedules import ScheduleSpec
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol import codec
from tailplane.protocol.events import Event, PlatformType, join_events, pack_event, pack_platform_event, unpack_payload
from tailplane.protocol.ids import EntryId, WorkerId, new_task_id, new_worker_id
from tailplane.protocol.states import State, Trigger

LEASE = timedelta(minutes=10)
LAPSED = timedelta(seconds=-1)
OTHER_WORKER = new_worker_id()

TYPES = {
    Trigger.SUCCEED: PlatformType.SUCCEEDED,
    Trigger.FAIL: PlatformType.FAILED,
    Trigger.CANCEL: PlatformType.CANCELLED,
    Trigger.RETRY: PlatformType.RETRYING,
    Trigger.HAND_BACK: PlatformType.HANDED_BACK,
    Trigger.WAIT: PlatformType.PARKED,
}


def new_task(workflow: str = "echo", value: object = None, **more: object) -> NewTask:
    return NewTask(TaskRef(new_task_id()), workflow, "7", codec.pack(value), **more)  # type: ignore[arg-type]


def closing(begun: Begun, trigger: Trigger, *written: object, after: int | None = None) -> Closing:
    """Return what an attempt ends with: what was written last, and what the platform says."""
    packed = [pack_event(value) for value in written]
    fields: list[bytes | str] = ["result", codec.pack("done")] if trigger is Trigger.SUCCEED else []
    return Closing(
        trigger,
        begun.attempt,
        begun.seq if after is None else after,
        [*packed, pack_platform_event(TYPES[trigger], {"by": "attempt"})],
        fields,
    )


def append(begun: Begun, *written: object, after: int | None = None) -> Append:
    """Return an entry of an attempt that follows `after`: its own first event, if not given."""
    seq = (begun.seq if after is None else after) + len(written)
    return Append(begun.record.ref, EntryId(begun.attempt, seq), join_events([pack_event(value) for value in written]))


def every(seconds: int, **more: object) -> ScheduleSpec:
    """Return what runs `echo` every so many seconds."""
    plain: dict[str, object] = {
        "workflow": "echo", "input": codec.pack(None), "metadata": {}, "cron": None, "every_ms": seconds * 1000,
        "run_at_ms": None, "time_zone": "UTC", "overlap": "allow", "catch_up": "latest", "misfire_grace_ms": 60_000,
        "start_at_ms": None, "end_at_ms": None,
    }  # fmt: skip
    return ScheduleSpec(**(plain | more))  # type: ignore[arg-type]


@dataclass
class Deployment:
    """A deployment and its only worker."""

    broker: Broker
    worker: WorkerId = field(default_factory=new_worker_id)

    async def register(self, *, lease: timedelta = LEASE, worker: WorkerId | None = None) -> WorkerId:
        """Give a worker a lease; a lapsed one has a lease below zero."""
        worker = worker or self.worker
        record = WorkerRecord(worker, "host-1", 42, "0.1.0", ["echo"], 10, started_at=0)
        echo = WorkflowRecord("echo", "7", "Says it again.", {}, 1000, 3, None)
        await self.broker.queue.register(record, [echo], lease)
        return worker

    async def create(self, workflow: str = "echo", **more: object) -> TaskRef:
        task = new_task(workflow, **more)
        await self.broker.tasks.create(task)
        return task.ref

    async def enqueue(self, workflow: str = "echo", due: float = 0, terms: Terms = PLAIN) -> TaskRef:
        """Create and queue a task that is due in `due` seconds, or was `-due` seconds ago."""
        task = await self.create(workflow, terms=terms)
        await self.broker.queue.enqueue(task, workflow, delay=timedelta(seconds=due), terms=terms)
        return task

    async def claim(self, **room: int) -> list[Claim]:
        room = room or {"echo": 100}
        return (await self.broker.queue.claim(self.worker, sum(room.values()), room)).taken

    async def begin(self, task: TaskRef | None = None) -> Begun:
        """Begin the next attempt of a task, a new one if none is given."""
        return await self.broker.tasks.begin(task or await self.create(), self.worker, "host-1")

    async def finish(self, begun: Begun, trigger: Trigger = Trigger.SUCCEED, *written: object) -> State:
        return await self.broker.tasks.finish(begun.record.ref, closing(begun, trigger, *written))

    async def cancel(self, task: TaskRef, latest: int) -> State | None:
        return await self.broker.tasks.end(
            task, Trigger.CANCEL, latest, PlatformType.CANCELLED, {"reason": "by the test"}
        )

    async def entries(self, task: TaskRef) -> list[Entry]:
        (entries,) = await self.broker.log.read_after([(task, EntryId(0, 0), 100_000)])
        return entries

    async def events(self, task: TaskRef) -> list[Event]:
        return [event for entry in await self.entries(task) for event in unpack_payload(entry.id, entry.payload)]

    async def said(self, task: TaskRef) -> list[object]:
        """Return what the stream says: types of what the platform said, data of what the workflow did."""
        return [event.type if event.kind == "platform" else event.data for event in await self.events(task)]

    async def record(self, task: TaskRef) -> TaskRecord:
        return await self.broker.tasks.read(task)

    async def ttl_ms(self, task: TaskRef) -> tuple[int, int]:
        """Return what is left of the task's record and of its stream; -1: they stay, -2: there is none."""
        store, keys = self.broker.tasks.wire, self.broker.keys
        record, stream = await store.call([("PTTL", keys.task(task)), ("PTTL", keys.stream(task))])
        return record, stream


@pytest.fixture(scope="module")
def own() -> Iterator[EmbeddedServer]:
    """A server of a module's own, whose settings its tests change."""
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def deployment(broker: Broker) -> Deployment:
    return Deployment(broker)


async def server_now(redis: Redis) -> float:
    seconds, micros = await redis.time()
    return float(seconds + micros / 1e6)


def assert_whole(events: Sequence[Event]) -> None:
    """The invariant of every stream: seqs without holes, and a terminal event nowhere but at the end."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.seq for event in events[:-1] if event.is_terminal] == []
