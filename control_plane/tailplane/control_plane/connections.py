"""What all connections of one server share: their limits, and whom the server waits for. No I/O.

A timer for each request would cost as much as reading it does. So a connection is noted only where something is left
open when its bytes have been read - a head or a body that is not complete, an answer that its client does not read -
and the server looks once a second at those that have waited longest.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

# Seconds for which a connection that was refused is read, so that its client gets to the answer: to close a socket with
# unread bytes resets it, and the answer is lost.
LINGER = 2.0
# Connections over the limit that are still answered. What comes beyond them is closed at once.
ANSWERED_OVER_LIMIT = 100
# Bytes by which a body must have grown to count as one that makes progress: 400 a second with 10 s.
PROGRESS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may take. The settings of these names say why; times are in seconds."""

    max_connections: int
    head_timeout: float
    max_head_bytes: int
    max_headers: int
    max_url_bytes: int
    body_timeout: float
    send_timeout: float


class Guarded(Protocol):
    """A connection that is waited for."""

    def give_up_head(self) -> None:
        """End: the head did not come in time."""

    def give_up_body(self) -> None:
        """End: the body made no progress."""

    def give_up_sending(self) -> None:
        """End, if nothing but this client's not reading keeps it open."""

    def leave(self) -> None:
        """End: the answer has been there for long enough."""


class Waits:
    """Connections that are waited for, the longest first."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[Guarded, float] = {}

    def begin(self, connection: Guarded, now: float) -> None:
        """Wait for `connection` from now on."""
        # At the end, also where it was waited for before.
        self._since.pop(connection, None)
        self._since[connection] = now

    def end(self, connection: Guarded) -> None:
        """Wait no longer."""
        self._since.pop(connection, None)

    def take_overdue(self, now: float, patience: float) -> list[Guarded]:
        """Return those that have been waited for longer than `patience` seconds, and wait no longer."""
        overdue = []
        for connection, since in self._since.items():
            if now - since < patience:
                break
            overdue.append(connection)
        for connection in overdue:
            del self._since[connection]
        return overdue

    def __len__(self) -> int:
        return len(self._since)


class Connections:
    """What the connections of one server share.

    Attributes:
        heads: of whom a head is due: new ones, and those in the middle of one.
        bodies: in the middle of a body.
        unread: whose clients do not read their answers.
        leaving: that were refused, and may read why.
        refused: how many were refused, by reason.
    """

    def __init__(self, limits: ConnectionLimits, refused: "Counter[tuple[str, ...]]") -> None:
        self.limits = limits
        self.heads = Waits()
        self.bodies = Waits()
        self.unread = Waits()
        self.leaving = Waits()
        self.refused = refused

    def look(self, now: float) -> None:
        """End those that took too long. To be called once a second or so, with the loop's time."""
        limits = self.limits
        for connection in self.heads.take_overdue(now, limits.head_timeout):
            connection.give_up_head()
        for connection in self.bodies.take_overdue(now, limits.body_timeout):
            connection.give_up_body()
        for connection in self.unread.take_overdue(now, limits.send_timeout):
            connection.give_up_sending()
        for connection in self.leaving.take_overdue(now, LINGER):
            connection.leave()
