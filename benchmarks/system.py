"""What the harness needs to know of a system under test: how to start it, and how its client submits and reads.

Standard library only: a peer's driver runs in a virtual environment of its own, where Tailplane is not installed.
Servers are started by the harness' process (`Servers`), the load is made and measured in another one (`Client`), so
that the measuring costs the measured nothing but processor time, alike for all systems.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

# Characters that make an event of about 200 bytes.
PAD = 150


@dataclass(frozen=True, slots=True)
class Emit:
    """What one task is to write: `count` events `{"i": 0.., "t": time.monotonic(), "pad": "x" * pad}`.

    Attributes:
        count: how many events.
        rate: events per second, slept between events on the workflow's own loop; 0: as fast as it can.
        pad: characters of padding.
        delay: seconds before the first event, in which many readers can connect.
    """

    count: int
    rate: float = 0.0
    pad: int = PAD
    delay: float = 0.0


@dataclass(slots=True)
class Started:
    """A system that runs.

    Attributes:
        address: whatever its `Client` needs to find it; plain values, for it travels as JSON.
        pids: the processes of each role, such as {"control plane": [12], "worker": [13, 14], "redis": [15]}.
        redis_url: where its Redis listens, for its memory; None: it has none.
    """

    address: dict[str, Any]
    pids: dict[str, list[int]] = field(default_factory=dict)
    redis_url: str | None = None


@dataclass(frozen=True, slots=True)
class RawStream:
    """How a bare socket reads one task's stream over HTTP, for what measures servers and not clients.

    Attributes:
        host, port: where to connect.
        request: the bytes to send.
        form: how events look in the answer: "json" (`"t": 12.5, ..., "pad": `) or "msgpack".
    """

    host: str
    port: int
    request: bytes
    form: str = "json"


class Servers(ABC):
    """Starts and stops the processes of one system, on free loopback ports. Runs in the harness' process."""

    @abstractmethod
    def start(self) -> Started:
        """Start everything afresh (empty store) and return when it takes tasks."""

    @abstractmethod
    def stop(self) -> None:
        """End every process that `start` started, and remove what it left."""


class Client(ABC):
    """The system as its users meet it: its own client library where it has one. Runs in the driver's process."""

    @abstractmethod
    async def open(self, address: dict[str, Any]) -> None:
        """Connect."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""

    @abstractmethod
    async def submit(self, emit: Emit) -> str:
        """Start a task that emits; return its id."""

    @abstractmethod
    def events(self, task: str, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield what the task writes, from its first event on, as lists of one or more events as they arrive.

        Ends when the task has ended. `after` skips so many of its events (reading from the middle).
        """

    async def each(self, task: str, note: Callable[[dict[str, Any]], None], after: int = 0) -> None:
        """Call `note` with each event as it arrives, until the task has ended.

        A client whose users iterate over single events does so here, without the detour over lists.
        """
        async for batch in self.events(task, after):
            for event in batch:
                note(event)

    def streams(self, task: str) -> dict[str, RawStream]:
        """Return how a bare socket reads the task's stream, by format; nothing where that is not possible."""
        return {}

    @abstractmethod
    async def run(self, value: Any) -> Any:
        """Run a trivial task that returns its input, and return its result."""
