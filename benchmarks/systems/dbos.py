"""DBOS on Postgres: durable workflows, whose output is in streams that are rows of a table.

A FastAPI application runs the workflows and takes tasks over HTTP. The reader is the case that favours DBOS most:
`DBOSClient.read_stream_async` in the client's own process, straight from Postgres with no HTTP between, which only a
client that may have the database's address can do; bare sockets read the SSE that the application passes on. Postgres
is a private one with its own defaults, so every event is on disk before the call that writes it returns.

In its favour: LISTEN/NOTIFY in the client, which otherwise looks once a second; a pool of 20 connections for the
client, as the application has, in place of 5, and threads enough to use it; a workflow is started in the process that
takes the request, not through a queue, which is looked at once a second; uvloop, httptools, no access log.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import http_clients
from benchmarks.processes import Process, free_port, wait_for_http
from benchmarks.system import Client, Emit, RawStream, Servers, Started
from benchmarks.systems.peers import postgres
from benchmarks.systems.peers.install import install, python_of

NAME = "DBOS, on Postgres"
WORKLOADS = frozenset({"W1", "W2", "W3", "W4", "W5", "W6"})

_VENV = "dbos"
_REQUIREMENTS = ("dbos==3.4.0", "fastapi==0.165.0", "uvicorn[standard]==0.54.0", *http_clients.REQUIREMENTS)
_PROGRAM = "benchmarks.systems.peers.dbos_server"
_STREAM = "events"
_CONNECTIONS = 20
# Each read of DBOSClient is a call in a thread of asyncio's, which has six of them on two processors.
_THREADS = 64


class DbosServers(Servers):
    """Postgres and one application process."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self) -> Started:
        folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        database = postgres.Postgres()
        self._stack.callback(database.stop)
        port = free_port()
        command = [python_of(_VENV), "-m", _PROGRAM, str(port), database.url]
        application = Process(command, folder / "application.log")
        self._stack.callback(application.stop)
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/health", application)
        pids = {"application": [application.pid], "postgres": [database.pid]}
        return Started({"url": url, "database": database.url}, pids)

    def stop(self) -> None:
        self._stack.close()


class DbosClient(Client):
    """HTTP to start tasks, `DBOSClient` to read them."""

    async def open(self, address: dict[str, Any]) -> None:
        from dbos import DBOSClient

        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        self._where = urlsplit(address["url"])
        self._http = http_clients.httpx_clients(address["url"])
        self._client = await asyncio.to_thread(
            DBOSClient,
            system_database_url=address["database"],
            system_database_pool_size=_CONNECTIONS,
            use_listen_notify=True,
        )

    async def close(self) -> None:
        await self._http.close()
        await asyncio.to_thread(self._client.destroy)

    async def submit(self, emit: Emit) -> str:
        return str(await self._post("/tasks", asdict(emit)))

    async def events(self, task: str, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
        async for event in self._client.read_stream_async(task, _STREAM, offset=after):
            yield [event]

    async def each(self, task: str, note: Callable[[dict[str, Any]], None], after: int = 0) -> None:
        async for event in self._client.read_stream_async(task, _STREAM, offset=after):
            note(event)

    def streams(self, task: str) -> dict[str, RawStream]:
        host, port = self._where.hostname or "", self._where.port or 80
        request = f"GET /tasks/{task}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        return {"SSE": RawStream(host, port, request)}

    async def run(self, value: Any) -> Any:
        return await self._post("/run", {"value": value})

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        with self._http.one() as http:
            answer = await http.post(path, json=body)
        answer.raise_for_status()
        return answer.json()


def make_servers() -> Servers:
    return DbosServers()


def make_client() -> Client:
    return DbosClient()


def prepare() -> str:
    postgres.install()
    return install(_VENV, _REQUIREMENTS)
