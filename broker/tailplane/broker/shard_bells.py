"""Hears channels of a cluster where they are: sharded ones each from the primary that has its slot.

One connection to each primary that has a channel somebody wants. When a slot gets another primary (it moved, or a
replica took over) its channels follow, and each is told like a message that may have been missed. Whoever subscribes
notices nothing but that.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Sequence

from redis.asyncio import Redis

from tailplane.broker.addresses import Address
from tailplane.broker.slots import SlotMap
from tailplane.broker.store import ShardAway
from tailplane.broker.subscriptions import SHARDED, OnMessage, Subscriptions
from tailplane.broker.topology import Topology
from tailplane.protocol.errors import StoreUnavailable

# Seconds: between two looks at where the slots are, whatever is heard; between two tries to place what has strayed.
LOOK_EVERY = 5.0
PAUSE = 0.1


class AnyNode:
    """Whichever node answers: what is published on a plain channel comes to all of them."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    async def client(self) -> Redis:
        return await self._topology.any_node()

    async def mind(self) -> None:
        await asyncio.Event().wait()

    def lost(self) -> None:
        """Nothing: the next connection may go elsewhere."""


class _OneNode:
    def __init__(self, topology: Topology, address: Address) -> None:
        self._topology = topology
        self._address = address

    async def client(self) -> Redis:
        return self._topology.node(self._address).redis

    async def mind(self) -> None:
        await asyncio.Event().wait()

    def lost(self) -> None:
        self._topology.note_lost(self._address)


class _Ear:
    """The connection to one primary."""

    def __init__(self, heard: Subscriptions) -> None:
        self.heard = heard
        self.running: asyncio.Task[None] | None = None


class ShardBells:
    """The sharded channels that this process hears; a `Hearing`."""

    def __init__(self, topology: Topology, on_message: OnMessage) -> None:
        self._topology = topology
        self._on_message = on_message
        self._ears: dict[Address, _Ear] = {}
        # Of each channel that is wanted, where it is heard.
        self._at: dict[str, Address] = {}
        self._strays: set[str] = set()
        self._placed_by: SlotMap | None = None
        self._moved = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        # A connection is first needed in a request's, and outlives it.
        self._context = contextvars.copy_context()

    async def subscribe(self, channel: str) -> None:
        """See `Hearing`."""
        if channel not in self._at:
            if self._topology.map is None:
                await self._topology.refresh()
            owner = self._topology.owner_of(channel)
            if owner is None or self._topology.is_away(channel):
                raise ShardAway("Redis does not answer: a shard is away")
            self._at.setdefault(channel, owner)
        await self._ear(self._at[channel]).heard.subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        """See `Hearing`."""
        if owner := self._at.pop(channel, None):
            self._ears[owner].heard.let_go(channel)
        self._strays.discard(channel)

    async def run(self) -> None:
        """See `Hearing`."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for ear in self._ears.values():
                self._start(ear)
            with self._topology.watching(self._moved.set):
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY):
                            await self._moved.wait()
                    self._moved.clear()
                    with contextlib.suppress(StoreUnavailable):
                        await self._topology.refresh()
                    self._place()
                    # Where the nodes do not agree yet, a channel strays at once again.
                    await asyncio.sleep(PAUSE)

    def _place(self) -> None:
        """Hear each channel where its slot is now."""
        strays, self._strays = self._strays, set()
        placed_by, self._placed_by = self._placed_by, self._topology.map
        for channel in strays if placed_by is self._placed_by else list(self._at):
            at, owner = self._at.get(channel), self._topology.owner_of(channel)
            if at is None or owner is None or (owner == at and channel not in strays):
                continue
            waiting = self._ear(at).heard.let_go(channel)
            if waiting is None:
                # Somebody asked while its server was away, and asks again.
                del self._at[channel]
                continue
            self._at[channel] = owner
            self._ear(owner).heard.adopt(channel, waiting)
        self._retire()

    def _retire(self) -> None:
        """Close the connections to servers that have no slots any more."""
        used = {*self._at.values(), *(self._topology.map.replicas if self._topology.map else ())}
        for address in self._ears.keys() - used:
            if running := self._ears.pop(address).running:
                running.cancel()

    def _ear(self, address: Address) -> _Ear:
        ear = self._ears.get(address)
        if ear is None:
            where = _OneNode(self._topology, address)
            ear = self._ears[address] = _Ear(Subscriptions(where, self._on_message, SHARDED, self._note_strays))
            self._start(ear)
        return ear

    def _start(self, ear: _Ear) -> None:
        if self._group is not None and ear.running is None:
            ear.running = self._group.create_task(ear.heard.run(), context=self._context)

    def _note_strays(self, channels: Sequence[str]) -> None:
        self._strays.update(channels)
        self._moved.set()
