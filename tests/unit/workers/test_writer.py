"""Group commit over a real Redis: packed when busy, and nothing lost or doubled whatever happens to the connection."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import structlog
from redis.asyncio import Redis

from tailplane.broker import Append, Broker, Cut, Entry, EventLog, NewTask, Refusal, TaskRef, connect
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.errors import TailplaneError, TaskLost
from tailplane.protocol.events import Event, unpack_payload
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.workers import patience as patience_module
from tailplane.workers import writer as writer_module
from tailplane.workers.emitter import Emitter, Hooks, Limits
from tailplane.workers.writer import Writer

from .conftest import PATIENCE, WORKER, kept_over

_HOUR = timedelta(hours=1)
LIMITS = Limits(event=10_000, entry=10_000, task=100_000_000, emit=50_000_000)


@dataclass
class Desk:
    """Attempts that write, and what Redis has of them."""

    broker: Broker
    writer: Writer
    losses: int = 0

    async def emitter(self, limits: Limits = LIMITS, keep_last: int | None = None) -> Emitter:
        task = TaskRef(new_task_id())
        await self.broker.tasks.create(NewTask(task, "flow", "1", b"\xc0"))
        begun = await self.broker.tasks.begin(task, WORKER, "host-1")
        return Emitter(begun, limits, Hooks(self.writer.ring, self._lose), keep_last=keep_last)

    def _lose(self, reason: TailplaneError) -> None:
        self.losses += 1

    async def entries(self, emitter: Emitter) -> list[Entry]:
        """Return what the attempt has written."""
        (entries,) = await self.broker.log.read_after([(emitter.task, EntryId(emitter.attempt, 2), 100_000)])
        return entries

    async def events(self, emitter: Emitter) -> list[Event]:
        entries = await self.entries(emitter)
        return [event for entry in entries for event in unpack_payload(entry.id, entry.payload)]

    async def until_sent(self, *emitters: Emitter) -> None:
        async with asyncio.timeout(PATIENCE):
            while any(emitter._unsent for emitter in emitters):
                await asyncio.sleep(0.002)


@pytest.fixture
def desk(broker: Broker, writer: Writer) -> Desk:
    return Desk(broker, writer)


def assert_dense(events: list[Event]) -> None:
    assert [event.seq for event in events] == list(range(3, 3 + len(events)))


async def test_an_event_is_sent_at_once_when_nothing_is_in_flight(desk: Desk) -> None:
    emitter = await desk.emitter()
    for number in range(3):
        emitter.write(number)
        await desk.until_sent(emitter)
    assert [event.data for event in await desk.events(emitter)] == [0, 1, 2]
    assert len(await desk.entries(emitter)) == 3


async def test_what_gathers_while_a_pipeline_is_in_flight_is_packed(desk: Desk) -> None:
    emitter = await desk.emitter()
    for number in range(1000):
        emitter.write(number)
    await desk.until_sent(emitter)
    events = await desk.events(emitter)
    assert [event.data for event in events] == list(range(1000))
    assert_dense(events)
    # Ten bytes an event and ten thousand an entry: two would do.
    assert len(await desk.entries(emitter)) <= 3


async def test_an_entry_stays_within_its_bound(desk: Desk) -> None:
    emitter = await desk.emitter()
    for _ in range(200):
        emitter.write("x" * 990)
    await desk.until_sent(emitter)
    entries = await desk.entries(emitter)
    assert max(len(entry.payload) for entry in entries) <= 10_000 + 3
    assert_dense(await desk.events(emitter))


async def test_many_tasks_share_a_pipeline_each_in_its_own_order(desk: Desk) -> None:
    emitters = [await desk.emitter() for _ in range(20)]
    for number in range(100):
        for emitter in emitters:
            emitter.write(number)
    await desk.until_sent(*emitters)
    for emitter in emitters:
        events = await desk.events(emitter)
        assert [event.data for event in events] == list(range(100))
        assert_dense(events)


async def test_a_stream_that_keeps_its_last_events_is_cut_as_it_goes_on(desk: Desk, redis: Redis) -> None:
    emitter = await desk.emitter(keep_last=20)
    most = 0
    for number in range(200):
        emitter.write(number)
        await desk.until_sent(emitter)
        most = max(most, await redis.xlen(desk.broker.keys.stream(emitter.task)))
    assert most <= 20 + 2 + 2
    kept = [event.data for event in await desk.events(emitter)]
    assert kept == list(range(200 - len(kept), 200))
    assert len(kept) >= 20


async def test_what_an_earlier_attempt_wrote_is_not_cut_before_its_time(desk: Desk, redis: Redis) -> None:
    first = await desk.emitter(keep_last=10)
    first.write("old")
    await desk.until_sent(first)
    begun = await desk.broker.tasks.begin(first.task, WORKER, "host-1")
    second = Emitter(begun, LIMITS, Hooks(desk.writer.ring, desk._lose), keep_last=10)
    for number in range(10):
        second.write(number)
        await desk.until_sent(second)
    assert await redis.xlen(desk.broker.keys.stream(first.task)) == 14
    for number in range(10):
        second.write(number)
        await desk.until_sent(second)
    assert await redis.xlen(desk.broker.keys.stream(first.task)) <= 12


async def test_a_cut_whose_reply_is_lost_costs_nothing(
    desk: Desk, lossy_broker: Broker, lose_next_reply: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "_FIRST", 0.001)
    trim = EventLog.trim

    async def lose_and_trim(log: EventLog, cuts: Sequence[Cut]) -> list[int | None]:
        lose_next_reply()
        return await trim(log, cuts)

    monkeypatch.setattr(EventLog, "trim", lose_and_trim)
    desk.writer = Writer(lossy_broker.log, kept_over(lossy_broker))
    running = asyncio.ensure_future(desk.writer.run())
    emitter = await desk.emitter(keep_last=8)
    for number in range(40):
        emitter.write(number)
        await desk.until_sent(emitter)
    running.cancel()
    assert desk.losses == 0
    kept = [event.data for event in await desk.events(emitter)]
    assert kept == list(range(40 - len(kept), 40))
    assert 8 <= len(kept) <= 12


@dataclass
class Witness:
    """A log that notes what is under way at once.

    Attributes:
        shards: how many servers the streams seem to be on; which one of them has a stream is another at each look.
    """

    log: EventLog
    shards: int = 1
    under_way: list[TaskRef] = field(default_factory=list)
    most: int = 0
    calls: list[list[Append]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def shard(self, _: TaskRef) -> int:
        return self.chance.randrange(self.shards)

    async def append(self, appends: Sequence[Append]) -> list[Refusal | None]:
        tasks = [append.task for append in appends]
        self.under_way += tasks
        assert len(set(self.under_way)) == len(self.under_way)
        self.calls.append(list(appends))
        self.most = max(self.most, len(self.under_way))
        outcome = await self.log.append(appends)
        self.under_way = [task for task in self.under_way if task not in tasks]
        return outcome


@pytest.mark.parametrize(("tasks", "takes", "rests"), [(50, 0.02, True), (20, 0.02, False), (50, 0.0, False)])
async def test_a_writer_of_many_tasks_that_can_not_keep_up_rests(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, tasks: int, takes: float, rests: bool
) -> None:
    loop, ended, append = asyncio.get_running_loop(), [], EventLog.append
    gaps: list[float] = []

    async def slow(log: EventLog, appends: Sequence[Append]) -> list[Refusal | None]:
        gaps.extend(loop.time() - at for at in ended[-1:])
        outcome = await append(log, appends)
        await asyncio.sleep(takes)
        ended.append(loop.time())
        return outcome

    # On a machine that does nothing else, a flush takes no time but what this one is given.
    monkeypatch.setattr(writer_module, "_SOON", 0.019)
    monkeypatch.setattr(writer_module, "_REST", 0.02)
    monkeypatch.setattr(EventLog, "append", slow)
    desk = Desk(broker, Writer(broker.log, kept_over(broker)))
    running = asyncio.ensure_future(desk.writer.run())
    emitters = [await desk.emitter() for _ in range(tasks)]
    for number in range(3):
        for emitter in emitters:
            emitter.write(number)
        await desk.until_sent(*emitters)
        # Rung for already when the last flush has ended, as by workflows that go on writing.
        for emitter in emitters:
            emitter.write(f"{number} and a half")
    await desk.until_sent(*emitters)
    running.cancel()
    for emitter in emitters:
        assert_dense(await desk.events(emitter))
    if rests:
        assert min(gaps) >= 0.015
    else:
        assert min(gaps) < 0.015


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_task_has_one_entry_in_flight_at_the_most(broker: Broker, shards: int) -> None:
    # Also where its slot goes from one server to the other and back while it is on its way.
    witness = Witness(broker.log, shards)
    writer = Writer(witness, kept_over(broker))  # type: ignore[arg-type]
    running = asyncio.ensure_future(writer.run())
    desk = Desk(broker, writer)
    emitters = [await desk.emitter() for _ in range(5)]
    for _ in range(200):
        for emitter in emitters:
            emitter.write("x" * 990)
        # Rung for twice, as a seal may do.
        writer.ring(emitters[0])
    await desk.until_sent(*emitters)
    assert len(witness.calls) >= 20
    for appends in witness.calls:
        assert len({append.task for append in appends}) == len(appends)
    assert not running.done()
    # Whatever shards there were: those that have left are forgotten.
    assert (writer._lanes, writer.seated) == ({}, set())
    running.cancel()
    for emitter in emitters:
        assert_dense(await desk.events(emitter))


async def test_more_than_a_pipeline_holds_is_sent_in_several(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_FLUSH_ENTRIES", 3)
    monkeypatch.setattr(writer_module, "_FLUSH_BYTES", 2000)
    emitters = [await desk.emitter() for _ in range(10)]
    for number in range(50):
        for emitter in emitters:
            emitter.write([number, "x" * 100])
    await desk.until_sent(*emitters)
    for emitter in emitters:
        events = await desk.events(emitter)
        assert [event.data[0] for event in events] == list(range(50))
        assert_dense(events)


async def test_a_busy_task_does_not_starve_the_others(desk: Desk) -> None:
    busy, quiet = await desk.emitter(), await desk.emitter()
    for _ in range(5000):
        busy.write("x" * 990)
    quiet.write("hello")
    await desk.until_sent(quiet)
    assert busy._unsent > 0
    await desk.until_sent(busy)
    assert_dense(await desk.events(busy))


async def test_a_fenced_off_attempt_is_told_and_does_not_disturb_others(desk: Desk, broker: Broker) -> None:
    fenced, healthy = await desk.emitter(), await desk.emitter()
    await broker.tasks.begin(fenced.task, new_worker_id(), "host-2")
    with structlog.testing.capture_logs() as logs:
        for number in range(100):
            fenced.write(number)
            healthy.write(number)
        await desk.until_sent(fenced, healthy)
    with pytest.raises(TaskLost):
        fenced.write("more")
    assert desk.losses == 1
    assert desk.writer.written.fenced == 1
    assert [log["event"] for log in logs] == ["entry refused"]
    events = await desk.events(healthy)
    assert [event.data for event in events] == list(range(100))
    assert_dense(events)


async def test_a_stream_that_is_gone_is_not_made_again(desk: Desk, broker: Broker) -> None:
    emitter = await desk.emitter()
    await broker.tasks.discard(emitter.task)
    emitter.write("late")
    await desk.until_sent(emitter)
    with pytest.raises(TaskLost):
        emitter.write("later")
    assert await broker.log.exist([emitter.task]) == [False]


async def test_a_lost_reply_doubles_nothing(
    desk: Desk, lossy_broker: Broker, lose_next_reply: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "_FIRST", 0.001)
    writer = Writer(lossy_broker.log, kept_over(lossy_broker))
    running = asyncio.ensure_future(writer.run())
    desk.writer = writer
    emitters = [await desk.emitter() for _ in range(3)]
    for round_ in range(5):
        lose_next_reply()
        for emitter in emitters:
            emitter.write(round_)
        await desk.until_sent(*emitters)
    running.cancel()
    for emitter in emitters:
        events = await desk.events(emitter)
        assert [event.data for event in events] == list(range(5))
        assert_dense(events)
    assert desk.losses == 0


async def test_a_writer_survives_a_server_that_takes_no_writes_for_a_while(
    desk: Desk, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "_FIRST", 0.01)
    monkeypatch.setattr(writer_module, "_LONGEST_PAUSE", 0.01)
    emitter = await desk.emitter()
    await redis.config_set("min-replicas-to-write", 1)
    try:
        await redis.config_resetstat()
        emitter.write("held")
        async with asyncio.timeout(PATIENCE):
            while (await redis.info("errorstats")).get("errorstat_NOREPLICAS", {}).get("count", 0) < 3:
                await asyncio.sleep(0.002)
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    await desk.until_sent(emitter)
    assert [event.data for event in await desk.events(emitter)] == ["held"]
    assert desk.losses == 0


@pytest.fixture
async def killable(server: EmbeddedServer, prefix: str) -> AsyncIterator[Broker]:
    """A broker whose connections are killed."""
    client = connect(server.url, Redis)
    yield Broker.over(client, prefix=prefix, retention=_HOUR, start_within=_HOUR)
    await client.aclose(close_connection_pool=True)


async def test_killed_connections_lose_double_and_reorder_nothing(
    broker: Broker, killable: Broker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "_FIRST", 0.001)
    monkeypatch.setattr(writer_module, "_LONGEST_PAUSE", 0.001)
    writer = Writer(killable.log, kept_over(killable))
    running = asyncio.ensure_future(writer.run())
    desk = Desk(broker, writer)
    shared, own = await desk.emitter(), [await desk.emitter() for _ in range(3)]
    written, stop = [0] * 3, threading.Event()

    def work(name: int) -> None:
        while not stop.is_set():
            own[name].write(written[name])
            shared.write([name, written[name]])
            written[name] += 1
            stop.wait(0.0005)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    kills = 0
    async with asyncio.timeout(PATIENCE):
        while kills < 40:
            # All but the one that asks: those of the writer, in the middle of whatever they do.
            kills += await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    await desk.until_sent(shared, *own)
    running.cancel()
    for name, emitter in enumerate(own):
        events = await desk.events(emitter)
        assert [event.data for event in events] == list(range(written[name]))
        assert_dense(events)
    events = await desk.events(shared)
    assert_dense(events)
    for name in range(3):
        assert [event.data[1] for event in events if event.data[0] == name] == list(range(written[name]))
    assert desk.losses == 0
    assert min(written) > 10
