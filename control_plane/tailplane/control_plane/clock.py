"""The clock that timers of the control plane go by: that of the queue's server, so that all control planes agree.

`create_app` takes another one: tests set theirs. No timer compares it with this machine's clock.
"""

from typing import Protocol

from tailplane.broker.wire import Wire


class Clock(Protocol):
    """Tells the time."""

    async def now_ms(self) -> int:
        """Return the time, in ms since the epoch.

        Raises:
            StoreUnavailable: it can't be told now.
        """
        ...


class ServerClock:
    """The clock of the server that a connection leads to."""

    def __init__(self, wire: Wire) -> None:
        """Ask by `wire`."""
        self._wire = wire

    async def now_ms(self) -> int:
        """Return the server's time, in ms since the epoch."""
        seconds, micros = await self._wire.run("TIME")
        return int(seconds) * 1000 + int(micros) // 1000
