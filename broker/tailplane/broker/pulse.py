"""Whether an event loop turns: a beat that its own timer sets, and that any thread may look at."""

import asyncio
import time

# Seconds between two beats.
_EVERY = 0.5


class Pulse:
    """The pulse of one loop. One that was never started counts as beating: its loop is on its way."""

    def __init__(self) -> None:
        self._beat: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat with the running loop until `stop`."""
        loop = asyncio.get_running_loop()
        self._beat = time.monotonic()
        self._timer = loop.call_later(_EVERY, self.start)

    def stop(self) -> None:
        """Beat no more; from then on the loop is not looked at."""
        if self._timer is not None:
            self._timer.cancel()
        self._beat = None

    @property
    def late(self) -> float:
        """For how many seconds the loop has not turned, 0 while it does. Thread-safe."""
        beat = self._beat
        return 0.0 if beat is None else max(0.0, time.monotonic() - beat - _EVERY)
