"""The limits of the machine: what Redis, uvicorn and bare sockets do with next to no code between them.

No system to use, so no Client: the workloads that have a limit are measured by `measures`.
"""

import sys

from benchmarks.stand import Measure
from benchmarks.system import Client, Servers
from benchmarks.systems.raw import measures
from benchmarks.systems.raw.servers import NoClient, RawServers

NAME = "raw"
MEASURES: dict[str, Measure] = {"W2": measures.paced, "W3": measures.flat_out, "W6": measures.many_readers}
WORKLOADS = frozenset(MEASURES)


def make_servers() -> Servers:
    return RawServers()


def make_client() -> Client:
    return NoClient()


def prepare() -> str:
    return sys.executable
