"""What a process knows of a Redis Cluster: which server has which slot, and which of them answer.

`Shards` sends commands by it, `ShardBells` listens by it. It is learned from the nodes, several at a time, and mended
when somebody notes that it is stale or that a server does not answer: until that one answers again it is away, and
nobody need wait for it.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tailplane.broker.addresses import Address
from tailplane.broker.slots import SlotMap, slot_of
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.errors import StoreUnavailable

# Seconds: for a node to tell the map, or that it is there; between two tries to mend what is torn; after which
# connections to a node that has left are closed: one that is about to get its first slot is not on the map yet.
LOOK_DEADLINE = 1.0
PAUSE = 0.25
LEFT_FOR = 60.0
# Nodes that are asked for the map at once: one of them may have been left behind.
_ASKED = 3


class Node:
    """One server of the cluster.

    Attributes:
        is_away: whether it did not answer when last asked.
        used_at: when that was, by the loop's clock.
    """

    __slots__ = ("address", "is_away", "redis", "used_at", "wire")

    def __init__(self, address: Address, redis: Redis) -> None:
        self.address = address
        self.redis = redis
        self.wire = Wire(redis)
        self.is_away = False
        self.used_at = 0.0


class Topology:
    """The nodes of one cluster. Connects to each when it is first used. Close it.

    Args:
        seeds: nodes that know the others.
        dial: returns a client of the node at an address, which connects when first used.

    Attributes:
        map: what the cluster told last of where the slots are; None: nothing yet.
        owners: who has each slot: as the map has it, and as redirections have told since. Empty before there is a map.
    """

    def __init__(self, seeds: Sequence[Address], dial: Callable[[Address], Redis]) -> None:
        self.map: SlotMap | None = None
        self.owners: list[Address | None] = []
        self._seeds = seeds
        self._dial = dial
        self._nodes: dict[Address, Node] = {}
        self._learning: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._is_stale = False
        self._doubted: set[Node] = set()
        self._watchers: list[Callable[[], None]] = []

    def owner_of(self, key: str) -> Address | None:
        """Return the primary that has a key or a sharded channel; None: not known."""
        return self.owners[slot_of(key)] if self.owners else None

    def is_away(self, key: str) -> bool:
        """Whether the primary that has a key did not answer when last asked, or nobody has its slot."""
        if not self.owners:
            return False
        owner = self.owner_of(key)
        return owner is None or self.node(owner).is_away

    def node(self, address: Address) -> Node:
        """Return the node at an address, which is used from now on."""
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(address, self._dial(address))
        node.used_at = asyncio.get_running_loop().time()
        return node

    async def any_node(self) -> Redis:
        """Return the client of some primary, one that answers if there is one.

        Raises:
            StoreUnavailable: no node tells where the slots are.
        """
        primaries = [self.node(address) for address in (await self._known()).replicas]
        return random.choice([node for node in primaries if not node.is_away] or primaries).redis

    async def primaries(self) -> list[Redis]:
        """Return the clients of all primaries.

        Raises:
            StoreUnavailable: no node tells which they are.
        """
        return [self.node(address).redis for address in (await self._known()).replicas]

    async def servers(self) -> dict[Address, Redis]:
        """Return the clients of all nodes, replicas too.

        Raises:
            StoreUnavailable: no node tells which there are.
        """
        return {address: self.node(address).redis for address in (await self._known()).servers}

    async def _known(self) -> SlotMap:
        if self.map is None:
            await self.refresh()
        assert self.map is not None
        return self.map

    def note_moved(self, slot: int, to: Address) -> None:
        """Note that a slot has another primary, by a redirection."""
        self.owners[slot] = to
        self.note_stale()

    def note_stale(self) -> None:
        """Note that some server may not be what the map says."""
        self._is_stale = True
        self.mend()

    def note_away(self, node: Node) -> None:
        """Note that a node did not answer."""
        node.is_away = True
        self.mend()

    def note_lost(self, address: Address) -> None:
        """Note that a connection to a node has broken; if it does not answer on another one, it is away."""
        self._doubted.add(self.node(address))
        self.mend()

    def mend(self) -> None:
        """Learn where the slots are, and try what is away, in the background."""
        if self._mending is None:
            self._mending = asyncio.ensure_future(self._mend())
            self._mending.add_done_callback(self._mended)

    @contextlib.contextmanager
    def watching(self, changed: Callable[[], None]) -> Any:
        """Call `changed`, inside the block, whenever some slot has got another primary."""
        self._watchers.append(changed)
        try:
            yield
        finally:
            self._watchers.remove(changed)

    async def refresh(self) -> None:
        """Learn where the slots are; who asks meanwhile shares the question.

        Raises:
            StoreUnavailable: no node tells.
        """
        if self._learning is None:
            self._learning = asyncio.ensure_future(self._learn())
            self._learning.add_done_callback(self._learned)
        await asyncio.shield(self._learning)

    async def aclose(self) -> None:
        """Close all connections."""
        under_way = [task for task in (self._learning, self._mending) if task is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for node in self._nodes.values():
            await node.redis.aclose(close_connection_pool=True)

    async def _mend(self) -> None:
        """Learn where the slots are, and try what is away, until all primaries answer."""
        while True:
            self._is_stale = False
            doubted, self._doubted = self._doubted, set()
            await asyncio.gather(*map(self._try, doubted))
            with contextlib.suppress(StoreUnavailable):
                await self.refresh()
            await asyncio.gather(*(self._try(node) for node in list(self._nodes.values()) if node.is_away))
            primaries = self.map.replicas if self.map else self._seeds
            if (
                not self._is_stale
                and not self._doubted
                and not any(self.node(address).is_away for address in primaries)
            ):
                return
            await asyncio.sleep(PAUSE)

    async def _try(self, node: Node) -> None:
        try:
            async with asyncio.timeout(LOOK_DEADLINE):
                await node.wire.run("PING")
            node.is_away = False
        except (StoreUnavailable, ResponseError, TimeoutError):
            node.is_away = True

    def _mended(self, mending: "asyncio.Task[None]") -> None:
        self._mending = None
        _retrieve(mending)
        # Noted while it was ending.
        if self._doubted and not mending.cancelled():
            self.mend()

    async def _learn(self) -> None:
        refusal = "no node of its cluster answers"
        nodes = self._candidates()
        for few in (nodes[first : first + _ASKED] for first in range(0, len(nodes), _ASKED)):
            told = await asyncio.gather(*(self._look(address) for address in few))
            maps = [each for each in told if isinstance(each, tuple)]
            if maps:
                # The epoch grows with each failover and each move: a node that was left behind has an old one.
                _, _, newest = max(maps, key=lambda each: each[:2])
                await self._adopt(newest)
                return
            refusal = next((each for each in told if isinstance(each, str)), refusal)
        raise StoreUnavailable(f"Redis does not answer: {refusal}")

    def _candidates(self) -> list[Address]:
        """Return all known nodes, those that answered last time first."""
        known = [*(self.map.servers if self.map else ()), *self._seeds]
        random.shuffle(known)
        away = {address for address, node in self._nodes.items() if node.is_away}
        return sorted(dict.fromkeys(known), key=away.__contains__)

    async def _look(self, address: Address) -> tuple[int, int, SlotMap] | str | None:
        """Return the epoch that a node knows of, how many slots its map covers, and the map; or why it tells none."""
        try:
            async with asyncio.timeout(LOOK_DEADLINE):
                replies = await self.node(address).wire.call([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
            raise_refusals(replies)
        except ResponseError as error:
            return f"{address} tells no map of a cluster: {error}"
        except (StoreUnavailable, TimeoutError):
            return None
        info, rows = replies
        facts = dict(line.partition(b":")[::2] for line in info.splitlines())
        found = SlotMap.parse(rows, address)
        return int(facts.get(b"cluster_current_epoch", 0)), found.covered, found

    async def _adopt(self, found: SlotMap) -> None:
        # A redirection may have told before: who watches has not heard of it.
        is_changed = self.map is None or not self.owners == self.map.owners == found.owners
        self.map, self.owners = found, list(found.owners)
        if is_changed:
            for changed in list(self._watchers):
                changed()
        # One that was away when it left, or as a replica, and that nobody may ask since it is taken to be away.
        if any(address in self._nodes and self._nodes[address].is_away for address in found.replicas):
            self.mend()
        there, now = {*found.servers, *self._seeds}, asyncio.get_running_loop().time()
        for address, node in list(self._nodes.items()):
            if address not in there and now - node.used_at > LEFT_FOR:
                del self._nodes[address]
                await node.redis.aclose(close_connection_pool=True)

    def _learned(self, learning: "asyncio.Task[None]") -> None:
        self._learning = None
        _retrieve(learning)


def _retrieve(task: "asyncio.Task[None]") -> None:
    # So that a failure is not reported where nobody waits any more.
    if not task.cancelled():
        task.exception()
