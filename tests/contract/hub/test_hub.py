"""The hub hands every reader every event, once and in order, whatever is lost, late or slow."""

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tailplane.broker import Broker, Entry, EventLog, TaskRef
from tailplane.broker.event_log import PUBLISH_BYTES
from tailplane.control_plane import feed
from tailplane.control_plane import hub as hub_module
from tailplane.control_plane import reader as reader_module
from tailplane.control_plane.formats import FRAMES, NDJSON, SSE
from tailplane.control_plane.hub import Hub
from tailplane.protocol import events
from tailplane.protocol.cursor import After, Last, Now
from tailplane.protocol.errors import CursorPastEnd, StoreUnavailable, TaskGone, TaskNotFound
from tailplane.protocol.frames import encode_frame
from tailplane.protocol.ids import EntryId, new_task_id

from .conftest import DEADLINE, Author, open_at, read, seqs_and_data


async def test_a_reader_gets_the_past_and_then_what_is_written(hub: Hub, author: Author) -> None:
    await author.write("a", "b")
    reader = await open_at(hub, author)
    past = await read(reader, 4)
    await author.write("c")
    live = await read(reader, 5)
    await author.finish()
    end = await read(reader, 6)
    assert reader.is_at_end
    found = seqs_and_data(past + live + end)
    assert [seq for seq, _ in found] == [1, 2, 3, 4, 5, 6]
    assert [data for _, data in found[2:5]] == ["a", "b", "c"]
    await reader.close()


async def test_what_is_written_while_readers_come_is_lost_to_none(hub: Hub, author: Author) -> None:
    async def write() -> None:
        for i in range(300):
            await author.write(i)
        await author.finish()

    async def tail(delay_steps: int) -> list[tuple[int, object]]:
        for _ in range(delay_steps):
            await asyncio.sleep(0)
        reader = await open_at(hub, author)
        frames = await read(reader, 10_000)
        await reader.close()
        return seqs_and_data(frames)

    *tails, _ = await asyncio.gather(*(tail(i * 20) for i in range(20)), write())
    for found in tails:
        assert [seq for seq, _ in found] == list(range(1, 304))


@pytest.mark.parametrize("cursor", range(8))
async def test_a_reader_may_begin_inside_an_entry(hub: Hub, author: Author, cursor: int) -> None:
    await author.write("a", "b", "c")
    await author.write("d")
    await author.finish()
    reader = await open_at(hub, author, cursor)
    sse = await read(reader, 7, SSE)
    ids = [int(line[4:]) for line in sse.decode().splitlines() if line.startswith("id: ")]
    assert ids == list(range(cursor + 1, 8))
    await reader.close()
    reader = await open_at(hub, author, cursor)
    ndjson = await read(reader, 7, NDJSON)
    assert [json.loads(line)["seq"] for line in ndjson.splitlines()] == ids
    await reader.close()
    reader = await open_at(hub, author, cursor)
    assert [seq for seq, _ in seqs_and_data(await read(reader, 7, FRAMES), cursor)] == ids
    await reader.close()


@pytest.mark.parametrize(("position", "first"), [(Last(1), 6), (Last(2), 5), (Last(6), 1), (Last(99), 1)])
async def test_a_reader_may_begin_with_the_last_events(hub: Hub, author: Author, position: Last, first: int) -> None:
    await author.write("a", "b", "c")
    await author.finish()
    reader = await open_at(hub, author, position)
    found = seqs_and_data(await read(reader, 6), reader.cursor and first - 1)
    assert [seq for seq, _ in found] == list(range(first, 7))
    await reader.close()


async def test_now_is_what_comes_next(hub: Hub, author: Author) -> None:
    await author.write("before")
    reader = await open_at(hub, author, Now())
    assert reader.cursor == 3
    await author.write("after")
    assert seqs_and_data(await read(reader, 4), 3) == [(4, "after")]
    await reader.close()


async def test_now_of_an_ended_task_is_its_end(hub: Hub, author: Author) -> None:
    await author.write("before")
    await author.finish()
    reader = await open_at(hub, author, Now())
    assert [seq for seq, _ in seqs_and_data(await read(reader, 4), 3)] == [4]
    await reader.close()


async def test_a_cursor_past_the_end_is_refused(hub: Hub, author: Author) -> None:
    with pytest.raises(CursorPastEnd) as caught:
        await open_at(hub, author, 3)
    assert caught.value.facts["last_seq"] == 2
    assert not hub.feed_count


async def test_a_reader_that_saw_more_elsewhere_is_not_refused(hub: Hub, author: Author) -> None:
    lagging = await open_at(hub, author)
    await author.write("unheard here", "shown elsewhere", rings=False)
    ahead = await open_at(hub, author, 4)
    now = await open_at(hub, author, Now())
    assert now.cursor == 4
    await author.write("next")
    assert seqs_and_data(await read(ahead, 5), 4) == [(5, "next")]
    assert seqs_and_data(await read(now, 5), 4) == [(5, "next")]
    assert [seq for seq, _ in seqs_and_data(await read(lagging, 5))] == [1, 2, 3, 4, 5]
    for reader in (lagging, ahead, now):
        await reader.close()


async def test_nobody_s_stream_is_not_found(hub: Hub) -> None:
    with pytest.raises(TaskNotFound):
        await hub.open(TaskRef(new_task_id()), After(0))
    assert not hub.feed_count


async def test_a_lost_bell_is_made_up_for_by_the_sweep(
    hub: Hub, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SWEEP_STEP", 0.05)
    reader = await open_at(hub, author)
    await read(reader, 2)
    await author.write("unheard", rings=False)
    assert seqs_and_data(await read(reader, 3), 2) == [(3, "unheard")]
    await reader.close()


@pytest.fixture
def rare_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """For hubs that begin to run afterwards: a sweep reads some stream ten times a second, whatever readers do."""
    monkeypatch.setattr(hub_module, "SWEEP_STEP", 3600.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many streams each reading of the hub asked for."""
    read_after, counted = EventLog.read_after, []

    async def count(log: EventLog, wanted: Sequence[Any]) -> list[list[Entry]]:
        counted.append(len(wanted))
        return await read_after(log, wanted)

    monkeypatch.setattr(EventLog, "read_after", count)
    return counted


@pytest.mark.usefixtures("rare_sweeps")
async def test_a_small_entry_comes_with_its_bell(hub: Hub, author: Author, reads: list[int]) -> None:
    readers = [await open_at(hub, author) for _ in range(3)]
    await asyncio.gather(*(read(reader, 2) for reader in readers))
    reads.clear()
    for number in range(20):
        await author.write(number)
    found = await asyncio.gather(*(read(reader, 22) for reader in readers))
    assert [data for _, data in seqs_and_data(found[0], 2)] == list(range(20))
    assert found[0] == found[1] == found[2]
    assert reads == []
    for reader in readers:
        await reader.close()


@pytest.mark.usefixtures("rare_sweeps")
@pytest.mark.parametrize("size", [1, 2 * PUBLISH_BYTES], ids=["small", "large"])
async def test_each_entry_comes_by_its_bell_alone_before_the_next_is_written(
    hub: Hub, author: Author, size: int
) -> None:
    reader = await open_at(hub, author)
    await read(reader, 2)
    for number in range(10):
        await author.write("x" * size)
        ((seq, data),) = seqs_and_data(await read(reader, author.seq), author.seq - 1)
        assert (seq, data) == (3 + number, "x" * size)
    await author.finish()
    assert [seq for seq, _ in seqs_and_data(await read(reader, author.seq), author.seq - 1)] == [13]
    assert reader.is_at_end
    await reader.close()


@pytest.mark.usefixtures("rare_sweeps")
async def test_an_entry_that_comes_out_of_its_turn_is_read_with_what_was_missed(
    hub: Hub, author: Author, reads: list[int]
) -> None:
    reader = await open_at(hub, author)
    await read(reader, 2)
    reads.clear()
    await author.write("unheard", rings=False)
    await author.write("heard")
    assert seqs_and_data(await read(reader, 4), 2) == [(3, "unheard"), (4, "heard")]
    assert reads == [1]
    await reader.close()


async def test_an_entry_that_is_heard_twice_is_shown_once(hub: Hub, author: Author, broker: Broker) -> None:
    reader = await open_at(hub, author)
    await author.write("a")
    again = encode_frame(EntryId(1, 3), events.join_events([events.pack_event("a")]))
    await broker.redis.publish(broker.keys.bell(author.task), again)
    await author.write("b")
    assert [data for _, data in seqs_and_data(await read(reader, 4), 2)] == ["a", "b"]
    await reader.close()


async def test_large_and_small_entries_in_any_order_are_seen_in_theirs(hub: Hub, author: Author) -> None:
    chance = random.Random(5)
    readers = [await open_at(hub, author) for _ in range(3)]
    tails = [asyncio.ensure_future(read(reader, 10_000)) for reader in readers]
    for number in range(300):
        await author.write(number, "x" * chance.choice([1, PUBLISH_BYTES // 2, PUBLISH_BYTES, 10 * PUBLISH_BYTES]))
        if chance.random() < 0.1:
            await asyncio.sleep(0.001)
    await author.finish()
    for tail in tails:
        found = seqs_and_data(await tail)
        assert [seq for seq, _ in found] == list(range(1, author.seq + 1))
        assert [data for _, data in found[2:-1:2]] == list(range(300))
    for reader in readers:
        await reader.close()


async def test_a_lost_connection_of_the_bells_loses_nothing(hub: Hub, author: Author, broker: Broker) -> None:
    reader = await open_at(hub, author)
    await read(reader, 2)
    await broker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await author.write("unheard")
    assert seqs_and_data(await read(reader, 3), 2) == [(3, "unheard")]
    await reader.close()


async def test_a_slow_reader_keeps_nothing_in_memory_and_loses_nothing(hub: Hub, author: Author) -> None:
    slow = await open_at(hub, author)
    quick = await open_at(hub, author)
    big = b"x" * 100_000
    for _ in range(60):
        await author.write(big)
        await read(quick, author.seq)
    held = hub.window_bytes
    assert held <= feed.WINDOW_BYTES + len(big) + 100
    await author.finish()
    found = seqs_and_data(await read(slow, author.seq))
    assert [seq for seq, _ in found] == list(range(1, 64))
    await slow.close()
    await quick.close()


@pytest.mark.usefixtures("rare_sweeps")
async def test_readers_at_the_same_place_in_the_past_share_what_is_read(
    hub: Hub, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = await open_at(hub, author)
    for number in range(300):
        await author.write([number, b"x" * 10_000])
        await read(quick, author.seq)
    asked: list[EntryId] = []
    read_after = EventLog.read_after

    async def counted(log: EventLog, wanted: Sequence[tuple[TaskRef, EntryId, int]]) -> list[list[Entry]]:
        asked.extend(after for _, after, _ in wanted)
        return await read_after(log, wanted)

    monkeypatch.setattr(EventLog, "read_after", counted)
    late = [await open_at(hub, author) for _ in range(10)]
    found = await asyncio.gather(*(read(reader, author.seq) for reader in late))
    for frames in found:
        assert [seq for seq, _ in seqs_and_data(frames)] == list(range(1, author.seq + 1))
    # The past was read once, and not ten times, and little of it is kept.
    assert len(asked) <= len(set(asked)) + 2
    assert len(hub._turns.kept) <= 16
    for reader in (quick, *late):
        await reader.close()


async def test_a_chunk_has_a_bound(hub: Hub, author: Author) -> None:
    for _ in range(30):
        await author.write(b"x" * 50_000)
    reader = await open_at(hub, author)
    async with asyncio.timeout(DEADLINE):
        while reader.cursor < author.seq:
            assert len(await reader.chunk(FRAMES, 1.0)) <= reader_module.CHUNK_BYTES + 51_000
    await reader.close()


async def test_an_entry_is_encoded_once_for_all_its_readers(hub: Hub, author: Author) -> None:
    readers = [await open_at(hub, author) for _ in range(5)]
    await asyncio.gather(*(read(reader, 2) for reader in readers))
    calls = []

    class Counted:
        media_type = "counted"
        keep_alive = b""

        def encode(self, entry: object, after: int) -> bytes:
            calls.append((entry, after))
            return b"x"

        def reconnect(self, after_ms: int) -> bytes:
            raise AssertionError(after_ms)

    await author.write("once")
    chunks = await asyncio.gather(*(read(reader, 3, Counted()) for reader in readers))
    assert [chunk[-1:] for chunk in chunks] == [b"x"] * 5
    assert len(calls) == 1
    for reader in readers:
        await reader.close()


async def test_readers_that_leave_leave_nothing_behind(hub: Hub, author: Author, broker: Broker) -> None:
    for _ in range(50):
        reader = await open_at(hub, author)
        await reader.close()
    assert not hub.feed_count
    channel = broker.keys.bell(author.task)
    async with asyncio.timeout(DEADLINE):
        while (await broker.redis.pubsub_numsub(channel))[0][1]:
            await asyncio.sleep(0.01)


async def test_streams_whose_shard_is_another_one_at_each_look_are_read_and_leave_nothing_behind(
    hub: Hub, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, read_after, away = itertools.count(), EventLog.read_after, itertools.count()

    async def read_every_third_time(log: EventLog, wanted: Any) -> list[list[Entry]]:
        if next(away) % 3:
            raise StoreUnavailable("away")
        return await read_after(log, wanted)

    monkeypatch.setattr(EventLog, "shard", lambda *_: next(shards))
    monkeypatch.setattr(EventLog, "read_after", read_every_third_time)
    monkeypatch.setattr(hub_module, "PAUSE", 0.002)
    reader = await open_at(hub, author, Now())
    frames = b""
    for number in range(20):
        # Too large to come with its bell.
        await author.write(f"{number} {'x' * PUBLISH_BYTES}")
        frames += await read(reader, number + 3)
    assert [seq for seq, _ in seqs_and_data(frames)] == list(range(3, 23))
    async with asyncio.timeout(DEADLINE):
        while hub._grown or hub.outage.is_on:
            await asyncio.sleep(0.002)
    assert next(shards) > 20
    await reader.close()


async def test_a_stream_that_is_removed_under_its_readers_is_told(
    hub: Hub, author: Author, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SWEEP_STEP", 0.05)
    reader = await open_at(hub, author)
    await read(reader, 2)
    await broker.redis.delete(broker.keys.stream(author.task))
    with pytest.raises(TaskGone):
        await read(reader, 3)
    await reader.close()


async def test_a_reader_that_leaves_wakes_no_other(hub: Hub, author: Author) -> None:
    leaving, staying = await open_at(hub, author), await open_at(hub, author)
    await asyncio.gather(read(leaving, 2), read(staying, 2))
    left = asyncio.ensure_future(leaving.chunk(FRAMES, DEADLINE))
    stays = asyncio.ensure_future(staying.chunk(FRAMES, DEADLINE))
    await asyncio.sleep(0)
    leaving.wake()
    assert await left == b""
    assert not stays.done()
    await author.write("for the other")
    assert seqs_and_data(await stays, 2) == [(3, "for the other")]
    for reader in (leaving, staying):
        await reader.close()
