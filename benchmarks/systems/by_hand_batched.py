"""The service written by hand, with batching: the worker gathers events, a reader takes up to 500 at a time."""

import sys

from benchmarks.system import Client, Servers
from benchmarks.systems.by_hand.client import ByHandClient
from benchmarks.systems.by_hand.servers import ByHandServers

NAME = "by hand, batched"
# The others do not depend on how events are sent.
WORKLOADS = frozenset({"W2", "W3", "W4", "W6"})


def make_servers() -> Servers:
    return ByHandServers(batched=True)


def make_client() -> Client:
    return ByHandClient()


def prepare() -> str:
    return sys.executable
