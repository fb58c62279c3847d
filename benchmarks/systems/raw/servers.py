"""Starts Valkey and a bare uvicorn."""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, free_port, wait_for_http
from benchmarks.system import Client, Emit, Servers, Started


class RawServers(Servers):
    """The two processes."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self) -> Started:
        from tailplane.deploy.embedded import EmbeddedServer

        folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        redis = self._stack.enter_context(EmbeddedServer(folder / "valkey", persist=True))
        port = free_port()
        options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        command = [sys.executable, "-m", "uvicorn", "benchmarks.systems.raw.app:app", *options]
        uvicorn = Process(command, folder / "uvicorn.log")
        self._stack.callback(uvicorn.stop)
        wait_for_http(f"http://127.0.0.1:{port}/", uvicorn)
        return Started({"port": port, "redis_port": redis.port}, {"uvicorn": [uvicorn.pid], "redis": [redis.pid]})

    def stop(self) -> None:
        self._stack.close()


class NoClient(Client):
    """Keeps the address, and can nothing else."""

    async def open(self, address: dict[str, Any]) -> None:
        self.address = address

    async def close(self) -> None:
        pass

    async def submit(self, emit: Emit) -> str:
        raise NotImplementedError

    def events(self, task: str, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
        raise NotImplementedError

    async def run(self, value: Any) -> Any:
        raise NotImplementedError
