"""Which server of a Redis Cluster has which keys: slots, addresses, and the map that a node tells. No I/O."""

from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tailplane.broker.addresses import Address

SLOTS = 16384


def slot_of(key: str | bytes) -> int:
    """Return the slot of a key or of a sharded channel: of its hash tag, if it has one that is not empty."""
    raw = key.encode() if isinstance(key, str) else key
    begin = raw.find(b"{")
    if begin >= 0 and (end := raw.find(b"}", begin)) > begin + 1:
        raw = raw[begin + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which primary has which slot.

    Attributes:
        owners: of each slot its primary; None: nobody has it.
        replicas: of each primary those that follow it.
    """

    owners: Sequence[Address | None]
    replicas: Mapping[Address, Sequence[Address]]

    @classmethod
    def parse(cls, rows: Sequence[Any], asked: Address) -> "SlotMap":
        """Return what the reply to `CLUSTER SLOTS` says; a host that it leaves out is the one that was asked."""
        owners: list[Address | None] = [None] * SLOTS
        replicas: dict[Address, list[Address]] = {}
        for first, last, primary, *followers in rows:
            owner = _parse_node(primary, asked)
            if owner is None:
                continue
            owners[first : last + 1] = [owner] * (last + 1 - first)
            # A primary has a row for each range of its slots.
            following = replicas.setdefault(owner, [])
            found = [address for node in followers if (address := _parse_node(node, asked))]
            following += [address for address in found if address not in following]
        return cls(owners, replicas)

    @property
    def servers(self) -> list[Address]:
        """All servers, the primaries first."""
        return list(dict.fromkeys(chain(self.replicas, chain.from_iterable(self.replicas.values()))))

    @property
    def covered(self) -> int:
        """How many slots have a primary."""
        return SLOTS - self.owners.count(None)


def _parse_node(node: Sequence[Any], asked: Address) -> Address | None:
    host, port = node[0], node[1]
    if host in (None, b""):
        return Address(asked.host, port)
    if host == b"?":
        # It prefers names, and this node has none: its number stands behind the id.
        facts = node[3] if len(node) > 3 else []
        known = dict(zip(facts[::2], facts[1::2], strict=False))
        host = known.get(b"ip")
    return Address(host.decode(), port) if host else None
