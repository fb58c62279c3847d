"""What holds the tasks and their streams, as the code sees it: one server, or the shards of a cluster."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeAlias

from tailplane.protocol.errors import StoreUnavailable

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = Sequence[Argument]


class ShardAway(StoreUnavailable):
    """The shard that has the key is known not to answer: nothing was sent."""


class Store(Protocol):
    """Takes commands, each with its keys on one slot, and gives their replies.

    Attributes:
        is_cluster: whether keys of different slots may lie on different servers; a script then takes those of one.
    """

    @property
    def is_cluster(self) -> bool: ...

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return their replies; a refused one's is an exception object.

        Of a cluster whose servers do not all answer, the commands that those have not answered get StoreUnavailable as
        their reply. What was sent may have been done.

        Raises:
            StoreUnavailable: nothing answers.
        """
        ...

    async def run(self, *command: Argument) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreUnavailable: its server does not answer, or says that it takes nothing now.
            ResponseError: it was refused.
        """
        ...

    def noticed(self, refusal: StoreUnavailable) -> None:
        """Note why a server did nothing, where that stood inside of a reply."""
        ...

    def is_away(self, key: str) -> bool:
        """Whether the server that has a key is known not to answer."""
        ...

    def shard(self, key: str) -> Hashable:
        """Return what stands for the server that has a key, as far as that is known."""
        ...
