"""A Redis Cluster for the streams: the URL that names some of its nodes, and a client of each of them.

redis-py brings the connections, as for a single server; what is where, and what to do when that changes, is `shards`'.
"""

from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection

from tailplane.broker import sentinel
from tailplane.broker.addresses import Address, Form, ManyHosts
from tailplane.broker.connection import COMMON_OPTIONS, HandedOver
from tailplane.broker.shards import Shards

SCHEMES = ("redis+cluster", "rediss+cluster")

_FORM = Form("redis+cluster://[user:password@]host[:port][,host[:port]...]", "node", 6379)


def check_cluster_url(url: str) -> str:
    """Return `url` if a cluster may be there.

    Raises:
        ValueError: it can't be; the message says what would be right, and holds nothing of the URL.
    """
    _parse(url)
    return url


def connect_cluster(url: str) -> Shards:
    """Return the shards of the cluster at `url`: redis+cluster:// or rediss+cluster://. It connects when first used.

    Raises:
        ValueError: as `check_cluster_url`.
    """
    seeds, dial = _parse(url)
    return Shards(seeds, dial)


def _parse(url: str) -> tuple[list[Address], Callable[[Address], Redis]]:
    if url.partition("://")[0] not in SCHEMES:
        raise ValueError(f"a URL of a cluster begins with {' or '.join(f'{scheme}://' for scheme in SCHEMES)}")
    pieces = ManyHosts.parse(url)
    seeds = pieces.addresses(_FORM)
    # Database 0 is the only one that a cluster has.
    if pieces.path.strip("/") not in ("", "0") or pieces.options.get("db"):
        raise _FORM.malformed("a cluster has no databases and no services")
    kind = sentinel.mixed(HandedOver, SSLConnection if pieces.is_encrypted else Connection)
    options: dict[str, Any] = {**COMMON_OPTIONS, **pieces.options, "connection_class": kind}

    def dial(address: Address) -> Redis:
        return Redis.from_pool(ConnectionPool(host=address.host, port=address.port, **options))

    try:
        dial(seeds[0]).connection_pool.make_connection()
    except Exception as error:
        raise ValueError("redis-py does not take the options behind the ? of the URL") from error
    return seeds, dial
