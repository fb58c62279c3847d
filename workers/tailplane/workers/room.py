"""Room in an attempt's buffer, and who waits for it: on any loop, or in threads that run none. No I/O."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial

Waiters = Iterable[Callable[[], object]]


class Room:
    """Whether there is room. `wait` and `block` belong to those who write, the rest to the emitter, with its lock held.

    Attributes:
        is_there: whether nobody need wait; also once nothing more is taken, which a write says.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.is_there = True
        self._lock = lock
        # A dict, for those who go away meanwhile.
        self._waiters: dict[Callable[[], object], None] = {}

    async def wait(self) -> None:
        """Return when there is room."""
        loop = asyncio.get_running_loop()
        while True:
            future = loop.create_future()
            wake = partial(loop.call_soon_threadsafe, _resolve, future)
            if not self._wait_with(wake):
                return
            try:
                await future
            finally:
                with self._lock:
                    self._waiters.pop(wake, None)

    def block(self) -> None:
        """Return when there is room. For threads that run no event loop."""
        event = threading.Event()
        while self._wait_with(event.set):
            event.wait()
            event.clear()

    def open(self) -> Waiters:
        """Note that there is room; return who waits for it: to be woken without the lock."""
        self.is_there = True
        waiters, self._waiters = self._waiters, {}
        return waiters

    def _wait_with(self, wake: Callable[[], object]) -> bool:
        with self._lock:
            # Looked at under the lock: room that is made after this look finds the waiter.
            if not self.is_there:
                self._waiters[wake] = None
            return not self.is_there


def wake_all(waiters: Waiters) -> None:
    """Let them look again."""
    for wake in waiters:
        # A loop of the author's own may be closed since: whoever waited there is gone.
        with contextlib.suppress(RuntimeError):
            wake()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
