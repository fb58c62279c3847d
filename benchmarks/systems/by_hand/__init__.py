"""What a good engineer writes in an afternoon: FastAPI, arq as it comes, one XREAD BLOCK per client, SSE.

`app` and `worker` are the service, `client` its reader. Events are added one by one; `by_hand_batched` is the same with
batching on both sides.
"""

import sys

from benchmarks.system import Client, Servers
from benchmarks.systems.by_hand.client import ByHandClient
from benchmarks.systems.by_hand.servers import ByHandServers

NAME = "by hand"
WORKLOADS = frozenset({"W1", "W2", "W3", "W4", "W5", "W6", "W7"})


def make_servers() -> Servers:
    return ByHandServers(batched=False)


def make_client() -> Client:
    return ByHandClient()


def prepare() -> str:
    return sys.executable
