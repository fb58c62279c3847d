"""Runs authors' sync code in a thread, for code that awaits it."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def in_thread(pool: Executor, call: Callable[[], T]) -> T:
    """Return what a call returns that runs in a thread of the pool, in this context.

    A thread can't be interrupted: cancelled, this returns only when the call has ended.
    """
    inherited = contextvars.copy_context()
    running = asyncio.get_running_loop().run_in_executor(pool, lambda: inherited.run(_without_stop_iteration, call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # Nobody wants what it raises: looked at, or it would be logged as forgotten, also if this is cancelled twice.
        running.add_done_callback(_look_at)
        # The thread goes on: whoever waits for it has ended only when it has.
        await asyncio.wait({running})
        raise


def _look_at(ended: "asyncio.Future[T]") -> None:
    if not ended.cancelled():
        ended.exception()


def _without_stop_iteration(call: Callable[[], T]) -> T:
    try:
        return call()
    except StopIteration as error:
        # No future takes it: the run would never end. Coroutines and generators turn it into the same.
        raise RuntimeError("the workflow raised StopIteration") from error


def runs_a_loop() -> bool:
    """Return whether the running code could await something."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def require_a_loop(what: str) -> None:
    """Make sure that who asks for `what` can await it.

    Raises:
        RuntimeError: it is the code of a thread: else it would get a coroutine, and never know.
    """
    if not runs_a_loop():
        raise RuntimeError(f"{what} is for async code: write the workflow as `async def`, and await it there")
