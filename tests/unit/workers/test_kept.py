"""What a failover loses from the end of a stream is sent again by the attempt that wrote it, and by nobody else."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tailplane.broker import Append, Begun, Broker, Closing, EventLog, NewTask, TaskRef, TaskStore
from tailplane.broker import tasks as tasks_module
from tailplane.protocol.errors import StoreForbidden, StoreUnavailable, TailplaneError, TaskLost
from tailplane.protocol.events import PlatformType, join_events, pack_event, pack_platform_event, unpack_payload
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.protocol.states import State, Trigger
from tailplane.workers.emitter import Emitter, Hooks, Limits
from tailplane.workers.kept import EventsLost, Kept
from tailplane.workers.writer import Writer

from .conftest import PATIENCE, WORKER, kept_over

LIMITS = Limits(event=10_000, entry=10_000, task=100_000_000, emit=50_000_000)
Rollback = Callable[[], Awaitable[None]]


@dataclass
class Desk:
    """An attempt that writes, and the power to take the store back to where it was."""

    broker: Broker
    redis: Redis
    kept: Kept
    writer: Writer
    losses: list[TailplaneError] = field(default_factory=list)

    async def begin(self, keep_last: int | None = None) -> Emitter:
        task = TaskRef(new_task_id())
        await self.broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
        return self.hold(await self.broker.tasks.begin(task, WORKER, "host-1"), keep_last)

    def hold(self, begun: Begun, keep_last: int | None = None) -> Emitter:
        self.kept.add(begun.opening)
        return Emitter(begun, LIMITS, Hooks(self.writer.ring, self.losses.append), keep_last=keep_last)

    async def write(self, emitter: Emitter, *values: object) -> None:
        """Write each value as an entry of its own."""
        for value in values:
            emitter.write(value)
            async with asyncio.timeout(PATIENCE):
                while emitter._unsent:
                    await asyncio.sleep(0.002)

    async def remember(self, task: TaskRef) -> Rollback:
        """Return what takes the task back to where it is now, as a replica does that is promoted too early."""
        keys = [self.broker.keys.stream(task), self.broker.keys.task(task)]
        before = [await self.redis.dump(key) for key in keys]

        async def roll_back() -> None:
            for key, value in zip(keys, before, strict=True):
                await self.redis.restore(key, 0, value, replace=True)

        return roll_back

    async def seen(self, task: TaskRef) -> list[tuple[int, object]]:
        (entries,) = await self.broker.log.read_after([(task, EntryId(0, 0), 1000)])
        events = [event for entry in entries for event in unpack_payload(entry.id, entry.payload)]
        return [(event.seq, event.type if event.kind == "platform" else event.data) for event in events]


@pytest.fixture
def desk(broker: Broker, redis: Redis, writer: Writer) -> Desk:
    return Desk(broker, redis, writer.kept, writer)


@pytest.fixture
async def forgetful(broker: Broker, redis: Redis) -> AsyncIterator[Desk]:
    """A desk whose worker keeps nothing of what it has sent."""
    kept = kept_over(broker, 1)
    writer = Writer(broker.log, kept)
    running = asyncio.ensure_future(writer.run())
    yield Desk(broker, redis, kept, writer)
    running.cancel()


BEGUN = [(1, "task.queued"), (2, "task.started")]


async def test_lost_entries_are_sent_again_before_the_next_one(desk: Desk) -> None:
    emitter = await desk.begin()
    await desk.write(emitter, "a", "b")
    roll_back = await desk.remember(emitter.task)
    await desk.write(emitter, "c", "d", "e")
    await roll_back()
    await desk.write(emitter, "f", "g")
    assert await desk.seen(emitter.task) == [*BEGUN, *enumerate("abcdefg", start=3)]
    assert desk.losses == []
    assert desk.kept.repaired > 0


async def test_a_lost_beginning_is_made_good(desk: Desk) -> None:
    emitter = await desk.begin()
    task = emitter.task
    await desk.broker.tasks.discard(task)
    await desk.broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
    assert (await desk.broker.tasks.read(task)).state is State.QUEUED
    await desk.write(emitter, "a", "b")
    record = await desk.broker.tasks.read(task)
    assert (record.state, record.attempt, record.worker_id) == (State.RUNNING, 1, WORKER)
    assert await desk.seen(task) == [*BEGUN, (3, "a"), (4, "b")]
    assert await desk.redis.ttl(desk.broker.keys.stream(task)) == -1
    assert await desk.redis.ttl(desk.broker.keys.task(task)) == -1


async def test_a_task_whose_beginning_was_made_good_is_bounded_from_its_next_attempt_on(desk: Desk) -> None:
    task = TaskRef(new_task_id())
    await desk.broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
    roll_back = await desk.remember(task)
    hour = timedelta(hours=1)
    emitter = desk.hold(await desk.broker.tasks.begin(task, WORKER, "host-1", total_timeout=hour))
    await roll_back()
    await desk.write(emitter, "a")
    begun = await desk.broker.tasks.begin(task, new_worker_id(), "host-2", total_timeout=hour)
    assert begun.record.started_at is not None
    assert begun.record.end_by == pytest.approx(begun.record.started_at + 3600)


async def test_a_lost_take_over_is_made_good_with_its_rewind(desk: Desk) -> None:
    first = await desk.begin()
    await desk.write(first, "a")
    roll_back = await desk.remember(first.task)
    second = desk.hold(await desk.broker.tasks.begin(first.task, WORKER, "host-1"))
    await desk.write(second, "b")
    await roll_back()
    await desk.write(second, "c")
    record = await desk.broker.tasks.read(first.task)
    assert (record.attempt, record.superseded) == (2, 3)
    said = [value for _, value in await desk.seen(first.task)]
    assert said[2:] == ["a", "task.worker_lost", "task.rewind", "task.started", "b", "c"]


async def test_much_that_was_lost_comes_back_a_little_at_a_time_though_redis_goes_away_in_between(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TaskRef(new_task_id())
    await desk.broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
    roll_back = await desk.remember(task)
    emitter = desk.hold(await desk.broker.tasks.begin(task, WORKER, "host-1"))
    await desk.write(emitter, *"abcdefg")
    await roll_back()
    sent, repair = list[int](), TaskStore._repair

    async def repair_and_go_away(*args: Any) -> int:
        sent.append(len(args[-1]))
        entries = await repair(*args)
        if len(sent) == 2:
            # It was done, and the reply lost.
            raise StoreUnavailable("away")
        return entries

    monkeypatch.setattr(tasks_module, "SCRIPT_ENTRIES", 3)
    monkeypatch.setattr(TaskStore, "_repair", repair_and_go_away)
    await desk.write(emitter, "h")
    assert await desk.seen(task) == [*BEGUN, *enumerate("abcdefgh", start=3)]
    assert (await desk.broker.tasks.read(task)).state is State.RUNNING
    # The opening and seven entries.
    assert sent == [3, 3, 2]
    assert desk.losses == []


async def test_an_attempt_that_was_taken_over_after_the_loss_repairs_nothing(desk: Desk) -> None:
    emitter = await desk.begin()
    roll_back = await desk.remember(emitter.task)
    await desk.write(emitter, "a", "b")
    await roll_back()
    other = await desk.broker.tasks.begin(emitter.task, new_worker_id(), "host-2")
    before = await desk.seen(emitter.task)
    emitter.write("c")
    async with asyncio.timeout(PATIENCE):
        while not desk.losses:
            await asyncio.sleep(0.002)
    assert [type(error) for error in desk.losses] == [TaskLost]
    assert await desk.seen(emitter.task) == before
    assert other.attempt == 2


async def test_the_same_attempt_begun_by_another_worker_after_the_loss_is_left_alone(desk: Desk) -> None:
    emitter = await desk.begin()
    task = emitter.task
    await desk.write(emitter, "a")
    await desk.broker.tasks.discard(task)
    await desk.broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
    other = await desk.broker.tasks.begin(task, new_worker_id(), "host-2")
    assert other.attempt == emitter.attempt
    emitter.write("b")
    async with asyncio.timeout(PATIENCE):
        while not desk.losses:
            await asyncio.sleep(0.002)
    assert await desk.seen(task) == BEGUN


@pytest.mark.parametrize("seen_by_old", [3, 4])
async def test_an_attempt_of_another_worker_that_has_the_same_number_is_left_alone(
    desk: Desk, broker: Broker, seen_by_old: int
) -> None:
    old = await desk.begin()
    task = old.task
    await desk.write(old, *range(seen_by_old - 2))
    # A failover loses the claim, the beginning and what was written; the queue gives the task to another worker.
    await broker.tasks.discard(task)
    await broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
    worker = new_worker_id()
    writer = Writer(broker.log, Kept(broker.log, broker.tasks, worker, 1024 * 1024))
    running = asyncio.ensure_future(writer.run())
    losses: list[TailplaneError] = []
    begun = await broker.tasks.begin(task, worker, "host-2")
    new = Emitter(begun, LIMITS, Hooks(writer.ring, losses.append))
    # As many entries as the first one has written, so that their number tells nothing; or one more than it will have.
    await desk.write(new, "a")
    if seen_by_old == 3:
        await desk.write(old, "old")
    else:
        await desk.write(new, "b", "c")
        await desk.write(old, "old")
    with pytest.raises(TaskLost):
        last = pack_platform_event(PlatformType.FAILED, {"error": {}})
        await broker.tasks.finish(task, Closing(Trigger.FAIL, 1, new.seq, [last], worker=WORKER))
    await desk.write(new, "d")
    assert [type(error) for error in desk.losses] == [TaskLost]
    assert losses == []
    said = ["a", "d"] if seen_by_old == 3 else ["a", "b", "c", "d"]
    assert await desk.seen(task) == [*BEGUN, *enumerate(said, start=3)]
    running.cancel()


async def test_what_is_not_kept_any_more_is_lost(forgetful: Desk) -> None:
    emitter = await forgetful.begin()
    roll_back = await forgetful.remember(emitter.task)
    await forgetful.write(emitter, "a", "b")
    await roll_back()
    emitter.write("c")
    async with asyncio.timeout(PATIENCE):
        while not forgetful.losses:
            await asyncio.sleep(0.002)
    (error,) = forgetful.losses
    assert isinstance(error, EventsLost)
    assert (error.last, error.detail) == (2, "the store lost events 3 to 4")
    assert forgetful.kept.lost == 2
    assert await forgetful.seen(emitter.task) == BEGUN


async def test_an_outage_ends_where_redis_says_that_events_are_lost(
    forgetful: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter = await forgetful.begin()
    roll_back = await forgetful.remember(emitter.task)
    await forgetful.write(emitter, "a")
    await roll_back()
    repair, tries = Kept.repair, list[bool]()

    async def repair_later(*args: Any) -> int:
        tries.append(forgetful.writer.outage.is_on)
        if len(tries) == 1:
            raise StoreUnavailable("away")
        return await repair(*args)

    monkeypatch.setattr(Kept, "repair", repair_later)
    emitter.write("b")
    async with asyncio.timeout(PATIENCE):
        while not forgetful.losses or forgetful.writer._lanes:
            await asyncio.sleep(0.002)
    assert tries == [False, True]
    assert (forgetful.writer.outage.is_on, forgetful.writer.outage.count) == (False, 1)


async def test_a_repair_is_sent_in_pieces_of_so_many_bytes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    emitter = await desk.begin()
    roll_back = await desk.remember(emitter.task)
    await desk.write(emitter, *(number * "x" for number in (10, 300, 10, 10)))
    await roll_back()
    sent, repair = list[int](), TaskStore._repair

    async def note(*args: Any) -> int:
        sent.append(len(args[-1]))
        return await repair(*args)

    monkeypatch.setattr(tasks_module, "SCRIPT_BYTES", 250)
    monkeypatch.setattr(TaskStore, "_repair", note)
    await desk.write(emitter, "last")
    assert [data for _, data in await desk.seen(emitter.task)][2:] == ["x" * 10, "x" * 300, "x" * 10, "x" * 10, "last"]
    # One that alone has more goes alone.
    assert sent == [1, 1, 2]


async def test_a_stream_that_keeps_its_end_is_not_cut_where_events_are_lost(forgetful: Desk) -> None:
    emitter = await forgetful.begin(keep_last=8)
    roll_back = await forgetful.remember(emitter.task)
    await forgetful.write(emitter, *range(8))
    await roll_back()
    emitter.write("c")
    async with asyncio.timeout(PATIENCE):
        while not forgetful.losses:
            await asyncio.sleep(0.002)
    # What follows the loss in the writer's turn has been done when another task's event is there.
    await forgetful.write(await forgetful.begin(), "d")
    assert isinstance(forgetful.losses[0], EventsLost)
    assert await forgetful.seen(emitter.task) == BEGUN


async def test_that_streams_may_not_be_cut_is_logged_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    async def refuse(*_: Any) -> list[int | None]:
        nonlocal tries
        tries += 1
        raise StoreForbidden("no XTRIM")

    monkeypatch.setattr(EventLog, "trim", refuse)
    emitter = await desk.begin(keep_last=8)
    with capture_logs() as logs:
        await desk.write(emitter, *range(60))
    assert tries > 1
    assert [each["reason"] for each in logs if each["event"].startswith("Redis refuses to cut")] == ["no XTRIM"]
    assert await desk.seen(emitter.task) == [*BEGUN, *enumerate(range(60), start=3)]


async def test_what_is_lost_just_before_a_cut_is_sent_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    emitter = await desk.begin(keep_last=8)
    await desk.write(emitter, *range(6))
    roll_back = await desk.remember(emitter.task)
    trim = EventLog.trim

    async def lose_and_trim(log: EventLog, *args: Any) -> list[int | None]:
        monkeypatch.setattr(EventLog, "trim", trim)
        await roll_back()
        return await trim(log, *args)

    monkeypatch.setattr(EventLog, "trim", lose_and_trim)
    await desk.write(emitter, *range(6, 12))
    seen = await desk.seen(emitter.task)
    assert desk.losses == []
    # Seq 3 is event 0.
    assert seen == [(number + 3, number) for number in range(12 - len(seen), 12)]
    assert len(seen) >= 8


async def test_no_more_is_kept_than_the_bound(broker: Broker) -> None:
    kept = kept_over(broker, 3 * 270)
    task = TaskRef(new_task_id())
    for number in range(50):
        kept.add(Append(task, EntryId(1, number + 1), b"\x91" + b"x" * 29))
    assert [entry.id.seq for entry in kept._entries] == [48, 49, 50]


async def test_small_entries_take_no_more_memory_than_the_bound(broker: Broker) -> None:
    most = 1024 * 1024
    kept = kept_over(broker, most)
    task = TaskRef(new_task_id())
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(30_000):
            kept.add(Append(task, EntryId(1, number + 1000), join_events([pack_event("token ")]), number + 1000))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert most / 2 < taken < most * 1.25


async def test_a_writer_that_is_told_of_another_length_looks_before_it_repeats(desk: Desk) -> None:
    emitter = await desk.begin()
    await desk.write(emitter, "a")
    # As after a reply that was lost.
    emitter.entries += 5
    await desk.write(emitter, "b")
    assert await desk.seen(emitter.task) == [*BEGUN, (3, "a"), (4, "b")]
    assert emitter.entries == 4


async def test_a_removed_task_is_lost(desk: Desk) -> None:
    emitter = await desk.begin()
    await desk.broker.tasks.discard(emitter.task)
    with pytest.raises(TaskLost, match="removed"):
        await desk.kept.repair(emitter.task, 1, 2)


async def test_an_ended_task_takes_no_repair(desk: Desk) -> None:
    emitter = await desk.begin()
    await desk.write(emitter, "a")
    last = pack_platform_event(PlatformType.FAILED, {"error": {}})
    await desk.broker.tasks.finish(emitter.task, Closing(Trigger.FAIL, 1, 3, [last]))
    before = await desk.seen(emitter.task)
    with pytest.raises(TaskLost):
        await desk.kept.repair(emitter.task, 1, 3)
    assert await desk.seen(emitter.task) == before


async def test_what_the_record_got_with_lost_entries_comes_back_with_them(desk: Desk) -> None:
    emitter = await desk.begin()

    async def commit(name: str, value: str) -> None:
        emitter.commit(lambda _: (pack_event(name), [name, value]))
        async with asyncio.timeout(PATIENCE):
            while emitter._unsent:
                await asyncio.sleep(0.002)

    await commit("step:0", "kept")
    roll_back = await desk.remember(emitter.task)
    await commit("step:1", "lost")
    await commit("step:1", "lost later")
    await roll_back()
    fields = ("HMGET", desk.broker.keys.task(emitter.task), "step:0", "step:1")
    assert await desk.broker.tasks.wire.run(*fields) == [b"kept", None]
    await desk.write(emitter, "c")
    assert await desk.broker.tasks.wire.run(*fields) == [b"kept", b"lost later"]
    assert [value for _, value in await desk.seen(emitter.task)][2:] == ["step:0", "step:1", "step:1", "c"]
    assert desk.losses == []
