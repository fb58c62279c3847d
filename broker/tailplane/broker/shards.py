"""The shards of a Redis Cluster as one store: each command goes to the primary that has its key's slot.

One `Wire` to each primary, all of them under way at once, and the replies in the order of the commands. What a server
redirects was not done, and is sent on; what was lost with a connection may have been done, and is never sent twice. A
server that does not answer costs those who wait for it one deadline; from then on its commands are refused at once,
until `_mend` has reached it again or has learned who took its place. The other shards do not notice.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tailplane.broker.addresses import Address
from tailplane.broker.connection import COMMAND_DEADLINE, Redirected
from tailplane.broker.slots import SlotMap, slot_of
from tailplane.broker.store import Argument, Command, ShardAway
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.errors import StoreUnavailable

# Seconds: for a node to tell the map, or that it is there; between two tries to mend what is torn; after which
# connections to a node that has left are closed: one that is about to get its first slot is not on the map yet.
LOOK_DEADLINE = 1.0
PAUSE = 0.25
LEFT_FOR = 60.0
# How often one command is sent on: each time the slot has moved meanwhile.
REDIRECTIONS = 5
# Nodes that are asked for the map at once: one of them may have been left behind.
_ASKED = 3


class _Node:
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


class Shards:
    """The primaries of one cluster; a `Store`. Connects when first used. Close it.

    Args:
        seeds: nodes that know the others.
        dial: returns a client of the node at an address, which connects when first used.
    """

    is_cluster = True

    def __init__(self, seeds: Sequence[Address], dial: Callable[[Address], Redis]) -> None:
        self._seeds = seeds
        self._dial = dial
        self._nodes: dict[Address, _Node] = {}
        self._map: SlotMap | None = None
        # Those of the map, and what redirections have told since.
        self._owners: list[Address | None] = []
        self._learning: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._is_stale = False
        self._doubted: set[_Node] = set()
        self._watchers: list[Callable[[], None]] = []

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, each to its shard, and return their replies; a refused one's is an exception object.

        Commands of one key keep their order. Those that their shard does not answer get StoreUnavailable as reply.

        Raises:
            StoreUnavailable: no node tells where the slots are.
        """
        if not commands:
            return []
        if self._map is None:
            await self.refresh()
        owners, groups = self._owners, dict[Address | None, list[int]]()
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
            self._mend_soon()

    def shard(self, key: str) -> Address | None:
        """Return the primary that has a key or a sharded channel; None: not known."""
        return self._owners[slot_of(key)] if self._owners else None

    @property
    def map(self) -> SlotMap | None:
        """What the cluster told last of where the slots are; None: nothing yet."""
        return self._map

    def node(self, address: Address) -> Redis:
        """Return the client of one node."""
        return self._node(address).redis

    async def any_node(self) -> Redis:
        """Return the client of some primary, one that answers if there is one.

        Raises:
            StoreUnavailable: no node tells where the slots are.
        """
        primaries = [self._node(address) for address in (await self._known()).replicas]
        return random.choice([node for node in primaries if not node.is_away] or primaries).redis

    async def primaries(self) -> list[Redis]:
        """Return the clients of all primaries.

        Raises:
            StoreUnavailable: no node tells which they are.
        """
        return [self._node(address).redis for address in (await self._known()).replicas]

    async def servers(self) -> dict[Address, Redis]:
        """Return the clients of all nodes, replicas too.

        Raises:
            StoreUnavailable: no node tells which there are.
        """
        return {address: self._node(address).redis for address in (await self._known()).servers}

    async def _known(self) -> SlotMap:
        if self._map is None:
            await self.refresh()
        assert self._map is not None
        return self._map

    def is_away(self, key: str) -> bool:
        """Whether the primary that has a key did not answer when last asked, or nobody has its slot."""
        if not self._owners:
            return False
        owner = self._owners[slot_of(key)]
        return owner is None or self._node(owner).is_away

    def lost(self, address: Address) -> None:
        """Note that a connection to a node has broken; if it does not answer on another one, it is away."""
        self._doubted.add(self._node(address))
        self._start_mending()

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
            self._mend_soon()
            return [ShardAway("Redis takes nothing now: no server has the slot")] * len(commands)
        node = self._node(owner)
        if node.is_away:
            self._start_mending()
            return [ShardAway("Redis does not answer: a shard is away")] * len(commands)
        try:
            if not is_ask:
                replies = await node.wire.call(commands)
            else:
                asking = [each for command in commands for each in (("ASKING",), command)]
                replies = (await node.wire.call(asking))[1::2]
        except StoreUnavailable as error:
            self._note_away(node)
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
                                self._owners[reply.slot] = reply.to
                                self._mend_soon()
                            groups.setdefault((reply.to, reply.is_ask), []).append(place)
                    if not groups:
                        return
                    await self._scatter([(to, places, ask) for (to, ask), places in groups.items()], commands, replies)
        for place, reply in enumerate(replies):
            if type(reply) is Redirected:
                replies[place] = StoreUnavailable("Redis takes nothing now: its servers do not agree who has the slot")

    def _node(self, address: Address) -> _Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = _Node(address, self._dial(address))
        node.used_at = asyncio.get_running_loop().time()
        return node

    def _note_away(self, node: _Node) -> None:
        node.is_away = True
        self._start_mending()

    def _mend_soon(self) -> None:
        self._is_stale = True
        self._start_mending()

    def _start_mending(self) -> None:
        if self._mending is None:
            self._mending = asyncio.ensure_future(self._mend())
            self._mending.add_done_callback(self._mended)

    async def _mend(self) -> None:
        """Learn where the slots are, and try what is away, until all primaries answer."""
        while True:
            self._is_stale = False
            doubted, self._doubted = self._doubted, set()
            await asyncio.gather(*map(self._try, doubted))
            with contextlib.suppress(StoreUnavailable):
                await self.refresh()
            await asyncio.gather(*(self._try(node) for node in list(self._nodes.values()) if node.is_away))
            primaries = self._map.replicas if self._map else self._seeds
            if (
                not self._is_stale
                and not self._doubted
                and not any(self._node(address).is_away for address in primaries)
            ):
                return
            await asyncio.sleep(PAUSE)

    async def _try(self, node: _Node) -> None:
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
            self._start_mending()

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
        known = [*(self._map.servers if self._map else ()), *self._seeds]
        random.shuffle(known)
        away = {address for address, node in self._nodes.items() if node.is_away}
        return sorted(dict.fromkeys(known), key=away.__contains__)

    async def _look(self, address: Address) -> tuple[int, int, SlotMap] | str | None:
        """Return the epoch that a node knows of, how many slots its map covers, and the map; or why it tells none."""
        try:
            async with asyncio.timeout(LOOK_DEADLINE):
                replies = await self._node(address).wire.call([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
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
        is_changed = self._map is None or not self._owners == self._map.owners == found.owners
        self._map, self._owners = found, list(found.owners)
        if is_changed:
            for changed in list(self._watchers):
                changed()
        # One that was away when it left, or as a replica, and that nobody may ask since it is taken to be away.
        if any(address in self._nodes and self._nodes[address].is_away for address in found.replicas):
            self._start_mending()
        there, now = {*found.servers, *self._seeds}, asyncio.get_running_loop().time()
        for address, node in list(self._nodes.items()):
            if address not in there and now - node.used_at > LEFT_FOR:
                del self._nodes[address]
                await node.redis.aclose(close_connection_pool=True)

    def _learned(self, learning: "asyncio.Task[None]") -> None:
        self._learning = None
        _retrieve(learning)


def _key(command: Command) -> str | bytes:
    """Return the first key of a command: they all lie on one slot."""
    key = command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]
    return str(key) if isinstance(key, int) else key


def _retrieve(task: "asyncio.Task[None]") -> None:
    # So that a failure is not reported where nobody waits any more.
    if not task.cancelled():
        task.exception()
