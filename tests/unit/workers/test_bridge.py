"""The bridge runs coroutines on another loop, and brings back what comes of them."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tailplane.workers.bridge import Bridge


@pytest.fixture
def platform() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def test_the_work_runs_on_the_other_loop(platform: asyncio.AbstractEventLoop) -> None:
    async def work() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    assert await Bridge(platform).call(work) is platform


async def test_what_it_raises_comes_back(platform: asyncio.AbstractEventLoop) -> None:
    async def work() -> None:
        raise LookupError("there is none")

    with pytest.raises(LookupError, match="there is none"):
        await Bridge(platform).call(work)


async def test_a_cancelled_caller_cancels_the_work(platform: asyncio.AbstractEventLoop) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    caller = asyncio.ensure_future(Bridge(platform).call(work))
    assert await asyncio.to_thread(begun.wait, 20)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await asyncio.to_thread(cancelled.wait, 20)


async def test_it_may_lead_to_the_caller_s_own_loop() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 3

    assert await Bridge(asyncio.get_running_loop()).call(work) == 3


async def test_a_closed_loop_is_told(platform: asyncio.AbstractEventLoop) -> None:
    closed = asyncio.new_event_loop()
    closed.close()

    async def work() -> None:
        raise AssertionError("it can't run")

    with pytest.raises(RuntimeError, match="closed"):
        await Bridge(closed).call(work)
