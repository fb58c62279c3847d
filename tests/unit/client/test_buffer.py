import asyncio

import pytest

from tailplane.client.buffer import BatchBuffer
from tailplane.protocol.events import Event

pytestmark = pytest.mark.anyio


def batch(*seqs: int) -> list[Event]:
    return [Event(seq, 1, 0.0, None) for seq in seqs]


async def test_batches_come_out_in_order_and_then_the_end() -> None:
    buffer = BatchBuffer(100)
    buffer.put(batch(1, 2), 10)
    buffer.put(batch(3), 5)
    buffer.finish(None)

    assert [await buffer.take() for _ in range(3)] == [batch(1, 2), batch(3), []]


async def test_the_error_comes_after_the_last_batch_and_stays() -> None:
    buffer = BatchBuffer(100)
    buffer.put(batch(1), 10)
    buffer.finish(KeyError("first"))
    buffer.finish(None)

    assert await buffer.take() == batch(1)
    for _ in range(2):
        with pytest.raises(KeyError, match="first"):
            await buffer.take()


async def test_take_waits_for_a_batch() -> None:
    buffer = BatchBuffer(100)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(buffer.take())
        await asyncio.sleep(0)
        buffer.put(batch(1), 10)

    assert taking.result() == batch(1)


async def test_a_full_buffer_has_room_again_when_the_consumer_took_enough() -> None:
    buffer = BatchBuffer(10)
    buffer.put(batch(1), 6)
    assert not buffer.is_full
    buffer.put(batch(2), 6)
    assert buffer.is_full

    async with asyncio.TaskGroup() as group:
        room = group.create_task(buffer.room())
        await asyncio.sleep(0)
        assert not room.done()
        await buffer.take()
    assert buffer.size_bytes == 6


async def test_a_cancelled_take_loses_nothing() -> None:
    buffer = BatchBuffer(10)
    taking = asyncio.create_task(buffer.take())
    await asyncio.sleep(0)
    buffer.put(batch(1), 1)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking

    assert await buffer.take() == batch(1)


async def test_a_consumer_with_enough_to_take_lets_others_run() -> None:
    buffer = BatchBuffer(1000)
    for seq in range(1, 11):
        buffer.put(batch(seq), 1)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while turns < 10:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    for _ in range(10):
        await buffer.take()
    assert turns >= 9
    await running
