"""A real Redis Cluster on loopback ports: the embedded server's program, in as many processes as it has nodes."""

import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tailplane.broker.addresses import Address
from tailplane.broker.slots import SLOTS, SlotMap, slot_of
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import HOST, free_port

# What a failover may take on a busy machine, in seconds.
PATIENCE = 60.0


class RedisCluster:
    """Primaries and a replica of each; a context manager that starts and ends them. Nodes keep their ports.

    Args:
        primaries: how many.
        has_replicas: whether each has one. Without it, a primary that is gone stays so.
        node_timeout_ms: after which a node that does not answer counts as failed.
        config: more settings of all nodes.
    """

    def __init__(
        self,
        primaries: int = 3,
        *,
        has_replicas: bool = True,
        node_timeout_ms: int = 1000,
        directory: Path | None = None,
        persist: bool = False,
        config: dict[str, Any] | None = None,
    ) -> None:
        count = primaries * (2 if has_replicas else 1)
        self._primaries = primaries
        self._has_replicas = has_replicas
        self._clients: dict[EmbeddedServer, redis.Redis] = {}
        self._dir = None if directory else tempfile.TemporaryDirectory(prefix="tailplane-cluster-")
        where = directory or Path(self._dir.name if self._dir else "")
        settings = {
            "cluster-enabled": True,
            "cluster-node-timeout": node_timeout_ms,
            # A shard that is gone is no reason for the others to stop.
            "cluster-require-full-coverage": False,
            "cluster-allow-replica-migration": False,
            "cluster-replica-validity-factor": 0,
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
            **(config or {}),
        }
        self.nodes = [
            EmbeddedServer(where / f"node-{i}", persist=persist, config={**settings, "cluster-port": free_port()})
            for i in range(count)
        ]

    def start(self) -> Self:
        """Start all nodes and make a cluster of them."""
        try:
            for node in self.nodes:
                node.start()
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all nodes."""
        for client in self._clients.values():
            client.close()
        for node in self.nodes:
            node.kill()
            node.stop()
        if self._dir:
            self._dir.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL that names all nodes."""
        return f"redis+cluster://{','.join(f'{HOST}:{node.port}' for node in self.nodes)}"

    def _form(self) -> None:
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                (_, bus) = self.ask(node, "CONFIG", "GET", "cluster-port")
                self.ask(first, "CLUSTER", "MEET", HOST, node.port, bus)
        share = -(-SLOTS // self._primaries)
        for number in range(self._primaries):
            end = min(SLOTS, (number + 1) * share) - 1
            self.ask(self.nodes[number], "CLUSTER", "ADDSLOTSRANGE", number * share, end)
        until(lambda: all(self._knows_all(node) for node in self.nodes), "all nodes have met")
        for number, node in enumerate(self.nodes[self._primaries :]):
            self.ask(node, "CLUSTER", "REPLICATE", self.id_of(self.nodes[number]))
        until(self.is_whole, "the cluster is whole")

    def _knows_all(self, node: EmbeddedServer) -> bool:
        info = self.info(node)
        return info["cluster_known_nodes"] == str(len(self.nodes)) and info["cluster_slots_assigned"] == str(SLOTS)

    def is_whole(self) -> bool:
        """Whether every node is up, knows all slots to be served, and each primary has its replica."""
        for node in self.nodes:
            info = self.info(node)
            if info.get("cluster_state") != "ok" or info["cluster_slots_ok"] != str(SLOTS) or not self._knows_all(node):
                return False
            if not self.is_primary(node) and self.ask(node, "ROLE")[3] != b"connected":
                return False
            # A replica is told of only once its primary has something that it has too.
            if any(len(row) < 3 + self._has_replicas for row in self.ask(node, "CLUSTER", "SLOTS")):
                return False
        return len(self.primaries()) == self._primaries

    def info(self, node: EmbeddedServer) -> dict[str, str]:
        """Return what `CLUSTER INFO` says at a node."""
        said: bytes = self.ask(node, "CLUSTER", "INFO")
        return dict(line.partition(":")[::2] for line in said.decode().splitlines())

    def ask(self, node: EmbeddedServer, *command: Any) -> Any:
        """Send one command to a node and return its reply."""
        client = self._clients.get(node)
        if client is None or client.connection_pool.connection_kwargs["port"] != node.port:
            # A connection may be an earlier process': then it is made again.
            again = Retry(NoBackoff(), 1)
            client = redis.Redis(host=HOST, port=node.port, socket_timeout=10, retry=again)
            # Replies as they come.
            client.response_callbacks.clear()
            self._clients[node] = client
        return client.execute_command(*command)

    def id_of(self, node: EmbeddedServer) -> str:
        """Return the id of a node."""
        said: bytes = self.ask(node, "CLUSTER", "MYID")
        return said.decode()

    def is_primary(self, node: EmbeddedServer) -> bool:
        """Whether a node takes itself for a primary; False where it is away."""
        try:
            return bool(self.ask(node, "ROLE")[0] == b"master")
        except redis.RedisError:
            return False

    def primaries(self) -> list[EmbeddedServer]:
        """Return the nodes that are primaries now."""
        return [node for node in self.nodes if self.is_primary(node)]

    def owner(self, key: str) -> EmbeddedServer:
        """Return the primary that has the slot of a key."""
        return next(node for node in self.primaries() if slot_of(key) in self.slots_of(node))

    def slots_of(self, node: EmbeddedServer) -> set[int]:
        """Return the slots that a primary takes for its own."""
        here = Address(HOST, node.port)
        owners = SlotMap.parse(self.ask(node, "CLUSTER", "SLOTS"), here).owners
        return {slot for slot, owner in enumerate(owners) if owner == here}

    def begin_to_move(self, slot: int, source: EmbeddedServer, target: EmbeddedServer) -> None:
        """Let a slot be on its way from one primary to another."""
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: EmbeddedServer, target: EmbeddedServer) -> None:
        """Move all keys of a slot that is on its way."""
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            self.ask(source, "MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, source: EmbeddedServer, target: EmbeddedServer) -> None:
        """Give a slot to its new primary, with all its keys: also those that other tests have left in it."""
        self.move_keys(slot, source, target)
        for node in (target, source):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def move_some(self, source: EmbeddedServer, keys: int = 20) -> None:
        """Move the slots of some keys of a primary to another one."""
        primaries = self.primaries()
        target = primaries[(primaries.index(source) + 1) % len(primaries)]
        found = (self.ask(source, "RANDOMKEY") for _ in range(keys))
        for slot in {slot_of(key) for key in found if key}:
            self.begin_to_move(slot, source, target)
            self.end_move(slot, source, target)

    def fail_over(self, primary: EmbeddedServer) -> None:
        """Kill a primary, and return when its replica has taken its place."""
        primary.kill()
        until(lambda: len(self.primaries()) == self._primaries, "a replica has taken over")

    def give_back(self, node: EmbeddedServer) -> None:
        """Start a node again, and return when it follows whoever took its place."""
        node.start()
        until(self.is_whole, "the cluster is whole")


def until(is_true: Any, what: str) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
