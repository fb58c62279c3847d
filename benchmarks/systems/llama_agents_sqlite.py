"""LlamaIndex's WorkflowServer with its events on SQLite, the persistence that is built into it.

As `llama_agents` but for the store: `SqliteWorkflowStore` with its defaults, in a file. This is the one to hold against
a system whose events outlive the process that wrote them.
"""

from benchmarks.system import Servers
from benchmarks.systems.llama_agents import WORKLOADS, WorkflowServers, make_client, prepare

__all__ = ["NAME", "WORKLOADS", "make_client", "make_servers", "prepare"]

NAME = "WorkflowServer, on SQLite"


def make_servers() -> Servers:
    return WorkflowServers(on_sqlite=True)
