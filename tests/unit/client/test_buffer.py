import asyncio

import pytest

from tailplane.client.buffer import BatchBuffer
from tailplane.protocol.events import Event

pytestmark = pytest.mark.anyio


def batch(*seqs: int) -> list[Event]:
    return [Event(seq, 1, 0.0, None) for seq in seqs]


async def test_batches_come_out_in_order_and_then_the_end() -> None:
    buffer = BatchBuffer(100)
    buffer.put([batch(1, 2)], 10)
    buffer.put([batch(3)], 5)
    buffer.finish(None)

    assert [await buffer.take() for _ in range(3)] == [batch(1, 2), batch(3), None]


async def test_the_error_comes_after_the_last_batch_and_stays() -> None:
    buffer = BatchBuffer(100)
    buffer.put([batch(1)], 10)
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
        buffer.put([batch(1)], 10)

    assert taking.result() == batch(1)


async def test_a_full_buffer_tells_when_the_consumer_took_enough() -> None:
    told = 0

    def tell() -> None:
        nonlocal told
        told += 1

    buffer = BatchBuffer(10)
    assert not buffer.put([batch(1)], 4)
    assert buffer.put([batch(2), batch(3)], 8)
    assert buffer.is_full
    buffer.on_room = tell

    await buffer.take()
    assert (told, buffer.size_bytes) == (1, 8)


async def test_batches_that_came_together_leave_room_when_the_last_of_them_is_taken() -> None:
    buffer = BatchBuffer(10)
    buffer.put([batch(1), batch(2), batch(3)], 12)

    assert buffer.take_now() == batch(1)
    assert buffer.take_now() == batch(2)
    assert buffer.is_full
    assert buffer.take_now() == batch(3)
    assert buffer.take_now() is None
    assert buffer.size_bytes == 0


async def test_two_who_wait_do_not_cancel_each_other() -> None:
    buffer = BatchBuffer(10)
    one, other = (asyncio.create_task(buffer.take()) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.sleep(0)
    buffer.put([batch(1)], 1)

    assert await other == batch(1)
    assert one.cancelled()


async def test_a_cancelled_take_loses_nothing() -> None:
    buffer = BatchBuffer(10)
    taking = asyncio.create_task(buffer.take())
    await asyncio.sleep(0)
    buffer.put([batch(1)], 1)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking

    assert await buffer.take() == batch(1)


async def test_a_consumer_with_enough_to_take_lets_others_run() -> None:
    buffer = BatchBuffer(1000)
    for seq in range(1, 11):
        buffer.put([batch(seq)], 1)
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
