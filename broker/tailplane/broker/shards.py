"""The shards of a Redis Cluster as one store: each command goes to the primary that has its key's slot.

One `Wire` to each primary, all of them under way at once, and the replies in the order of the commands. What a server
redirects was not done, and is sent on; what was lost with a connection may have been done, and is never sent twice. A
server that does not answer costs those who wait for it one deadline; from then on its commands are refused at once,
until the `Topology` has reached it again or has learned who took its place. The other shards do not notice.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from tailplane.broker.addresses import Address
from tailplane.broker.connection import COMMAND_DEADLINE, Redirected
from tailplane.broker.slots import slot_of
from tailplane.broker.store import Argument, Command, ShardAway
from tailplane.broker.topology import Topology
from tailplane.protocol.errors import StoreUnavailable

# How often one command is sent on: each time the slot has moved meanwhile.
REDIRECTIONS = 5


class Shards:
    """The primaries of one cluster; a `Store`. Connects when first used. Close it.

    Attributes:
        topology: where the slots are; what knows of a new primary besides tells it.
    """

    is_cluster = True

    def __init__(self, seeds: Sequence[Address], dial: Callable[[Address], Redis]) -> None:
        """See `Topology`."""
        self.topology = Topology(seeds, dial)

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, each to its shard, and return their replies; a refused one's is an exception object.

        Commands of one key keep their order. Those that their shard does not answer get StoreUnavailable as reply.

        Raises:
            StoreUnavailable: no node tells where the slots are.
        """
        if not commands:
            return []
        if self.topology.map is None:
            await self.topology.refresh()
        owners, groups = self.topology.owners, dict[Address | None, list[int]]()
        for place, command in enumerate(commands):
            groups.setdefault(owners[slot_of(_key(command))], []).append(place)
        if len(groups) == 1:
            (owner,) = groups
            replies = await self._ask(owner, commands)
        else:
            replies = [None] * len(commands)
            await self._scatter([(owner, places, False) for owner, places in groups.items()], commands, replies)
        if any(type(reply) is Redirected for reply in replies):
            await self._send_on(commands, replies)
        return replies

    async def run(self, *command: Argument) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreUnavailable: its shard does not answer, or takes nothing now.
            ResponseError: it was refused.
        """
        (reply,) = await self.call((command,))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def noticed(self, refusal: StoreUnavailable) -> None:
        """Note that some server takes nothing now: it may not be the primary any more."""
        if "READONLY" in str(refusal):
            self.topology.note_stale()

    def shard(self, key: str) -> Address | None:
        """Return the primary that has a key; None: not known."""
        return self.topology.owner_of(key)

    def is_away(self, key: str) -> bool:
        """Whether the primary that has a key did not answer when last asked, or nobody has its slot."""
        return self.topology.is_away(key)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.topology.aclose()

    async def _scatter(
        self, groups: Sequence[tuple[Address | None, list[int], bool]], commands: Sequence[Command], replies: list[Any]
    ) -> None:
        """Send groups of commands, each to its address, with `ASKING` or without; `replies` takes what comes back."""
        told = await asyncio.gather(
            *(
                self._ask(owner, [commands[place] for place in places], is_ask=is_ask)
                for owner, places, is_ask in groups
            )
        )
        for (_, places, _), some in zip(groups, told, strict=True):
            for place, reply in zip(places, some, strict=True):
                replies[place] = reply

    async def _ask(self, owner: Address | None, commands: Sequence[Command], *, is_ask: bool = False) -> list[Any]:
        """Return the replies of one server; where it does not answer, each is what says so."""
        if owner is None:
            self.topology.note_stale()
            return [ShardAway("Redis takes nothing now: no server has the slot")] * len(commands)
        node = self.topology.node(owner)
        if node.is_away:
            self.topology.mend()
            return [ShardAway("Redis does not answer: a shard is away")] * len(commands)
        try:
            if not is_ask:
                replies = await node.wire.call(commands)
            else:
                asking = [each for command in commands for each in (("ASKING",), command)]
                replies = (await node.wire.call(asking))[1::2]
        except StoreUnavailable as error:
            self.topology.note_away(node)
            return [error] * len(commands)
        for reply in replies:
            if type(reply) is Redirected and not reply.to.host:
                reply.to = reply.to._replace(host=owner.host)
        return replies

    async def _send_on(self, commands: Sequence[Command], replies: list[Any]) -> None:
        """Send what was redirected to where it belongs: nothing of it was done."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMAND_DEADLINE):
                for _ in range(REDIRECTIONS):
                    groups: dict[tuple[Address, bool], list[int]] = {}
                    for place, reply in enumerate(replies):
                        if type(reply) is Redirected:
                            if not reply.is_ask:
                                self.topology.note_moved(reply.slot, reply.to)
                            groups.setdefault((reply.to, reply.is_ask), []).append(place)
                    if not groups:
                        return
                    await self._scatter([(to, places, ask) for (to, ask), places in groups.items()], commands, replies)
        for place, reply in enumerate(replies):
            if type(reply) is Redirected:
                replies[place] = StoreUnavailable("Redis takes nothing now: its servers do not agree who has the slot")


def _key(command: Command) -> str | bytes:
    """Return the first key of a command: they all lie on one slot."""
    key = command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]
    return str(key) if isinstance(key, int) else key
