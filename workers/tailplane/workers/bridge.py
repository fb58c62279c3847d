"""The way from a workflow to the platform's loop, where all that talks to Redis lives.

Workflows run on another loop than the platform. What their context offers them to await, and needs Redis, crosses here:
it runs on the platform's loop, and its caller waits on its own. Nothing here has a deadline: what crosses brings one.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tailplane.workers.log_events import collecting

T = TypeVar("T")


class Bridge:
    """Leads to one loop, from any other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lead to `loop`, which runs in another thread or in this one."""
        self._loop = loop

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the coroutine that `work` makes returns; it is made, and runs, on the other loop.

        Where the caller is cancelled, the coroutine is cancelled, too; the caller does not wait for it to unwind.

        Raises:
            RuntimeError: the other loop is closed: the worker has ended.
            Exception: what the coroutine raises.
        """
        crossing = _cross(work)
        try:
            under_way = asyncio.run_coroutine_threadsafe(crossing, self._loop)
        except BaseException:
            crossing.close()
            raise
        return await asyncio.wrap_future(under_way)


async def _cross(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # It runs in the caller's context: what the platform's libraries log there is none of its stream's business.
    with collecting(None):
        return await work()
