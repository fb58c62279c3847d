"""A stream that keeps its last events only tells each reader what it missed."""

import json

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Cut, NewTask, TaskRef
from tailplane.control_plane.formats import NDJSON, SSE
from tailplane.control_plane.hub import Hub
from tailplane.protocol import codec
from tailplane.protocol.cursor import Last
from tailplane.protocol.errors import TaskGone
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, new_task_id

from .conftest import Author, open_at, read, seqs_and_data


async def cut(broker: Broker, author: Author, before: int) -> None:
    entries = await broker.log.wire.run("XLEN", broker.keys.stream(author.task))
    await broker.log.trim([Cut(author.task, EntryId(author.begun.attempt, before), entries)])


async def test_who_comes_too_late_is_told(hub: Hub, author: Author, broker: Broker) -> None:
    for number in range(3, 9):
        await author.write(number)
    await cut(broker, author, 7)
    await author.finish()
    reader = await open_at(hub, author)
    assert seqs_and_data(await read(reader, 9)) == [
        (6, {"from": 1, "to": 6}), (7, 7), (8, 8), (9, {"result": None})
    ]  # fmt: skip
    await reader.close()


async def test_a_reader_in_the_middle_is_told_what_is_behind_its_cursor(
    hub: Hub, author: Author, broker: Broker
) -> None:
    for number in range(3, 9):
        await author.write(number)
    await cut(broker, author, 7)
    reader = await open_at(hub, author, 4)
    assert seqs_and_data(await read(reader, 8)) == [(6, {"from": 5, "to": 6}), (7, 7), (8, 8)]
    await reader.close()
    # One that has seen as much misses nothing.
    reader = await open_at(hub, author, 6)
    assert seqs_and_data(await read(reader, 8)) == [(7, 7), (8, 8)]
    await reader.close()


async def test_who_asks_for_more_than_is_kept_is_told_of_the_rest(hub: Hub, author: Author, broker: Broker) -> None:
    for number in range(3, 9):
        await author.write(number)
    await cut(broker, author, 7)
    reader = await hub.open(author.task, Last(4))
    assert seqs_and_data(await read(reader, 8)) == [(6, {"from": 5, "to": 6}), (7, 7), (8, 8)]
    await reader.close()


async def test_an_entry_is_cut_as_a_whole_and_not_before_its_last_event(
    hub: Hub, author: Author, broker: Broker
) -> None:
    await author.write("c", "d", "e")
    await author.write("f")
    await cut(broker, author, 4)
    reader = await open_at(hub, author)
    assert seqs_and_data(await read(reader, 6)) == [(2, {"from": 1, "to": 2}), (3, "c"), (4, "d"), (5, "e"), (6, "f")]
    await reader.close()


async def test_text_formats_tell_it_as_an_event(hub: Hub, author: Author, broker: Broker) -> None:
    for number in range(3, 6):
        await author.write(number)
    await cut(broker, author, 5)
    reader = await open_at(hub, author)
    lines = (await read(reader, 5, SSE)).decode().split("\n")
    assert lines[:2] == ["id: 4", "event: task.gap"]
    assert json.loads(lines[2].removeprefix("data: "))["data"] == {"from": 1, "to": 4}
    await reader.close()
    reader = await open_at(hub, author)
    told, last = map(json.loads, (await read(reader, 5, NDJSON)).splitlines())
    assert (told["seq"], told["kind"], told["type"]) == (4, "platform", PlatformType.GAP)
    assert (last["seq"], last["data"]) == (5, 5)
    await reader.close()


async def test_a_hole_in_the_middle_is_told_too(hub: Hub, author: Author, redis: Redis, broker: Broker) -> None:
    await author.write("c")
    # As the end of a task whose events the store has lost.
    author.seq += 5
    await author.write("i")
    reader = await open_at(hub, author)
    seen = seqs_and_data(await read(reader, 9))
    assert seen[2:] == [(3, "c"), (8, {"from": 4, "to": 8}), (9, "i")]
    await reader.close()


async def test_a_stream_that_can_t_be_read_takes_no_other_with_it(
    hub: Hub, author: Author, redis: Redis, broker: Broker
) -> None:
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "test", "1", codec.pack(None)))
    spoiled = await hub.open(task, Last(1))
    sound = await open_at(hub, author, 2)
    await spoiled.chunk(SSE, 1.0)
    await redis.set(broker.keys.stream(task), "no stream")
    await redis.publish(broker.keys.bell(task), b"2")
    with pytest.raises(TaskGone):
        await read(spoiled, 2)
    await author.write("c", rings=False)
    await redis.publish(broker.keys.bell(author.task), b"3")
    assert seqs_and_data(await read(sound, 3)) == [(3, "c")]
    for reader in (spoiled, sound):
        await reader.close()
