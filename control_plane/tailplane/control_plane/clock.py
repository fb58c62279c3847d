"""The clock that timers of the control plane go by: that of the queue's server, so that all control planes agree.

The queue itself tells it (`Queue.now_ms`); `create_app` takes another one: tests set theirs. No timer compares it with
this machine's clock.
"""

from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    async def now_ms(self) -> int:
        """Return the time, in ms since the epoch.

        Raises:
            StoreUnavailable: it can't be told now.
        """
        ...
