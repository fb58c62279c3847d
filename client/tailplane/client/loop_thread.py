"""An event loop on a thread of its own, for callers that have none, or can't block the one they have (notebooks)."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

R = TypeVar("R")

_Started = Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]


class LoopThread:
    """Runs coroutines for other threads, one loop for all of them."""

    def __init__(self) -> None:
        """Start the thread; it is a daemon, so that a program that forgets to close it can end."""
        started: _Started = Future()
        self._thread = threading.Thread(target=_run, args=(started,), name="tailplane client", daemon=True)
        self._thread.start()
        self._loop, stop = started.result()
        # Not from the thread to this object: it ends the thread when it is collected.
        self._stop = weakref.finalize(self, _stop, self._loop, stop)

    @property
    def is_closed(self) -> bool:
        """Whether the thread was stopped."""
        return self._loop.is_closed()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Return what `work` returns; an interrupt (Ctrl-C) cancels it.

        Raises:
            RuntimeError: the thread was stopped, or it is this one, which would wait for itself.
        """
        if self.is_closed or threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the client is closed" if self.is_closed else "a blocking call on the client's own loop")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        self._stop()
        self._thread.join()


def _run(started: _Started) -> None:
    asyncio.run(_serve(started))


async def _serve(started: _Started) -> None:
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)
