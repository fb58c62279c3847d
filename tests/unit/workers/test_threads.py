"""Sync code in a thread, which nobody waits for any more."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tailplane.workers.threads import in_thread


async def test_what_a_thread_raises_is_nobodys_once_its_waiter_was_cancelled_twice() -> None:
    forgotten: list[dict[str, Any]] = []
    loop, go_on = asyncio.get_running_loop(), threading.Event()
    loop.set_exception_handler(lambda _, context: forgotten.append(context))

    def fail() -> None:
        go_on.wait(60)
        raise LookupError("late")

    with ThreadPoolExecutor(1) as pool:
        waiting = asyncio.ensure_future(in_thread(pool, fail))
        await asyncio.sleep(0)
        for _ in range(2):
            # As by a lost attempt, and then by a worker that stops.
            waiting.cancel()
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait({waiting})
        await asyncio.to_thread(pool.shutdown)
    # The future hears of its thread's end in a turn of its own.
    for _ in range(3):
        await asyncio.sleep(0)
    del waiting
    gc.collect()

    assert forgotten == []
