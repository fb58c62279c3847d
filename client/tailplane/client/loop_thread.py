"""An event loop on a thread of its own, for callers that have none, or can't block the one they have (notebooks)."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

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
        call = _Call(work)
        try:
            return asyncio.run_coroutine_threadsafe(call.run(), self._loop).result()
        except BaseException:
            # Not by the future: an interrupt can come before there is a name for it.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call.cancel)
            raise

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        self._stop()
        self._thread.join()


class _Call(Generic[R]):
    """A coroutine on its way to the loop, that can be cancelled from the moment it is made."""

    def __init__(self, work: Coroutine[Any, Any, R]) -> None:
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    async def run(self) -> R:
        if self._is_cancelled:
            self._work.close()
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        return await self._work

    def cancel(self) -> None:
        """Cancel it, unless it has ended; to be called on the loop."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()


def _run(started: _Started) -> None:
    asyncio.run(_serve(started))


async def _serve(started: _Started) -> None:
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)
