"""LlamaIndex's WorkflowServer (`llama-agents-server`) with its default store, and its own client.

The server runs its workflows in its own process and by default keeps their events in that process' memory: no network
between the code that writes and the HTTP response, and nothing outlives the process. The same with events kept on disk
is `llama_agents_sqlite`. The client reads the server's SSE stream, which is the only way that it has.

In its favour: uvloop and httptools (the package asks for plain uvicorn only), no access log, no time limit on a run
(45 s by default), and HTTP clients with kept connections handed to `WorkflowClient`, which by itself opens a connection
for every call and gives up on a result after 5 s.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import http_clients
from benchmarks.processes import Process, free_port, wait_for_http
from benchmarks.system import Client, Emit, RawStream, Servers, Started
from benchmarks.systems.peers.install import install, python_of

NAME = "WorkflowServer, in memory"
WORKLOADS = frozenset({"W1", "W2", "W3", "W4", "W5", "W6"})

_VENV = "llama_agents"
_REQUIREMENTS = (
    "llama-agents-server==0.8.0",
    "llama-agents-client==0.4.1",
    "llama-index-workflows==2.26.1",
    "uvicorn[standard]==0.54.0",
    *http_clients.REQUIREMENTS,
)
_PROGRAM = "benchmarks.systems.peers.llama_agents_server"


class WorkflowServers(Servers):
    """One WorkflowServer."""

    def __init__(self, *, on_sqlite: bool) -> None:
        self._on_sqlite = on_sqlite
        self._stack = ExitStack()

    def start(self) -> Started:
        folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port = free_port()
        store = [str(folder / "workflows.db")] if self._on_sqlite else []
        server = Process([python_of(_VENV), "-m", _PROGRAM, str(port), *store], folder / "server.log")
        self._stack.callback(server.stop)
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/health", server)
        return Started({"url": url}, {"server": [server.pid]})

    def stop(self) -> None:
        self._stack.close()


class WorkflowsClient(Client):
    """`llama_agents.client.WorkflowClient`."""

    async def open(self, address: dict[str, Any]) -> None:
        from llama_agents.client import WorkflowClient
        from workflows.events import StartEvent

        self._where = urlsplit(address["url"])
        self._start_event = StartEvent
        self._http = http_clients.httpx_clients(address["url"])
        self._clients = cycle([WorkflowClient(httpx_client=client) for client in self._http.all])

    async def close(self) -> None:
        await self._http.close()

    async def submit(self, emit: Emit) -> str:
        handler = await next(self._clients).run_workflow_nowait("emit", start_event=self._start_event(**asdict(emit)))
        return str(handler.handler_id)

    async def events(self, task: str, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
        async for event in self._follow(task, after):
            yield [event]

    async def each(self, task: str, note: Callable[[dict[str, Any]], None], after: int = 0) -> None:
        async for event in self._follow(task, after):
            note(event)

    def streams(self, task: str) -> dict[str, RawStream]:
        host, port = self._where.hostname or "", self._where.port or 80
        path = f"/events/{task}?sse=true&include_internal=false&after_sequence=-1"
        return {"SSE": RawStream(host, port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())}

    async def run(self, value: Any) -> Any:
        done = await next(self._clients).run_workflow("echo", start_event=self._start_event(value=value))
        return done.result.value["result"]

    async def _follow(self, task: str, after: int) -> AsyncIterator[dict[str, Any]]:
        # The server's own records are numbered with the task's events, so event `after` comes at that number or later.
        async for envelope in next(self._clients).get_workflow_events(task, after_sequence=after - 1):
            if envelope.type == "Emitted":
                if envelope.value["i"] >= after:
                    yield envelope.value
            elif envelope.type != "StopEvent":
                raise RuntimeError(f"{task} ended with {envelope.type}: {envelope.value}")


def make_servers() -> Servers:
    return WorkflowServers(on_sqlite=False)


def make_client() -> Client:
    return WorkflowsClient()


def prepare() -> str:
    return install(_VENV, _REQUIREMENTS)
