"""Starts the service: Valkey with persistence, uvicorn with uvloop and httptools, one arq worker."""

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.limits import CONCURRENCY
from benchmarks.processes import Process, free_port, wait_for_http, wait_for_log
from benchmarks.system import Servers, Started

_PACKAGE = "benchmarks.systems.by_hand"


class ByHandServers(Servers):
    """The service's processes."""

    def __init__(self, *, batched: bool) -> None:
        self._batched = batched
        self._stack = ExitStack()

    def start(self) -> Started:
        from tailplane.deploy.embedded import EmbeddedServer

        folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        redis = self._stack.enter_context(EmbeddedServer(folder / "valkey", persist=True))
        env = {"REDIS_URL": redis.url, "BATCHED": str(int(self._batched)), "MAX_JOBS": str(CONCURRENCY)}
        url = f"http://127.0.0.1:{free_port()}"
        server = ["-m", "uvicorn", f"{_PACKAGE}.app:app", "--port", url.rpartition(":")[2], "--no-access-log"]
        worker = ["-m", "arq", f"{_PACKAGE}.worker.WorkerSettings"]
        api = self._process("api", [*server, "--loop", "uvloop", "--http", "httptools"], folder, env)
        arq = self._process("worker", worker, folder, env)
        wait_for_http(f"{url}/healthz", api)
        wait_for_log("Starting worker", arq)
        pids = {"control plane": [api.pid], "worker": [arq.pid], "redis": [redis.pid]}
        return Started({"url": url}, pids, redis.url)

    def stop(self) -> None:
        self._stack.close()

    def _process(self, name: str, arguments: list[str], folder: Path, env: dict[str, str]) -> Process:
        process = Process([sys.executable, *arguments], folder / f"{name}.log", env)
        self._stack.callback(process.stop)
        return process
