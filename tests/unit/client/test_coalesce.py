import asyncio
from datetime import timedelta

import pytest

from tailplane.client.coalesce import Coalesced

pytestmark = pytest.mark.anyio


class Source:
    """Gives one waiting list per `take`, then the end or an error."""

    def __init__(self, *lists: list[int], error: Exception | None = None) -> None:
        self.lists = list(lists)
        self.error = error
        self.closed = False

    async def take(self) -> list[int]:
        if self.lists:
            return self.lists.pop(0)
        raise self.error or StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


async def test_lists_come_in_order_and_the_end_after_the_last() -> None:
    assert [items async for items in Coalesced(Source([1], [2, 3]), 0)] == [[1], [2, 3]]


async def test_the_error_comes_after_the_last_list() -> None:
    view = Coalesced(Source([1], error=KeyError("x")), 0)

    assert await anext(view) == [1]
    with pytest.raises(KeyError):
        await anext(view)


async def test_the_first_list_comes_at_once() -> None:
    async with asyncio.timeout(30):
        assert await anext(Coalesced(Source([1], [2]), timedelta(hours=1))) == [1]


async def test_the_next_list_comes_after_the_interval() -> None:
    clock = asyncio.get_running_loop().time
    view = Coalesced(Source([1], [2], [3]), timedelta(milliseconds=50))

    begin = clock()
    times = [clock() - begin async for _ in view]

    # The loop's timers may fire one tick of its clock early.
    assert times[1] >= 0.045
    assert times[2] >= 0.09


async def test_closing_the_view_closes_the_source() -> None:
    source = Source([1])
    await Coalesced(source, 1).aclose()

    assert source.closed
