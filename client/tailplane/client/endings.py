"""The ways in which reading one connection can end, as one union. `reader` meets them, `resume` judges them. No I/O."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream's terminal event was seen, now or at an earlier reading: there is no more."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection was refused, broken, silent or closed without a terminal event.

    Attributes:
        reason: the error that told of it.
        retry_after_s: how long the control plane asks to stay away, or None.
    """

    reason: Exception
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return str(self.reason)


@dataclass(frozen=True, slots=True)
class Hinted:
    """The control plane drains and asks to come back after this many milliseconds."""

    reconnect_ms: int

    def __str__(self) -> str:
        return f"the control plane drains and asks to come back in {self.reconnect_ms} ms"


@dataclass(frozen=True, slots=True)
class Hole:
    """After the event `last_seq` came `next_seq`, and something should be between them."""

    last_seq: int
    next_seq: int

    def __str__(self) -> str:
        return f"event {self.next_seq} came after event {self.last_seq}"


@dataclass(frozen=True, slots=True)
class Garbage:
    """The bytes are no msgpack frames."""

    detail: str

    def __str__(self) -> str:
        return f"the bytes are no frames: {self.detail}"


Ending = Ended | Lost | Hinted | Hole | Garbage
