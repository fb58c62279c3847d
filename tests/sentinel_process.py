"""A real sentinel: the embedded server's program, run as one."""

import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis

from tailplane.deploy.ports import HOST, free_port
from tailplane.deploy.tether import TetheredProcess
from tailplane.deploy.valkey_binary import find_binary

SERVICE = "main"
# What a failover may take on a busy machine, in seconds.
PATIENCE = 60.0


class SentinelProcess:
    """One sentinel on a loopback port; a context manager that starts and ends it."""

    def __init__(self, *, password: str = "", down_after_ms: int = 1000) -> None:
        self.port = free_port()
        self._password = password
        self._down_after_ms = down_after_ms
        self._dir = tempfile.TemporaryDirectory(prefix="tailplane-sentinel-")
        self._process: TetheredProcess | None = None

    @property
    def address(self) -> str:
        """Host and port, as a URL has them."""
        return f"{HOST}:{self.port}"

    def monitor(self, port: int, quorum: int = 1) -> None:
        """Watch the primary at a port, and no other one."""
        if self.state() is not None:
            self.ask("SENTINEL", "REMOVE", SERVICE)
        self.ask("SENTINEL", "MONITOR", SERVICE, HOST, str(port), str(quorum))
        self.ask("SENTINEL", "SET", SERVICE, "down-after-milliseconds", str(self._down_after_ms))
        self.ask("SENTINEL", "SET", SERVICE, "failover-timeout", "5000")

    def state(self) -> dict[str, Any] | None:
        """Return what it knows of the primary; None: it watches none."""
        found: dict[str, dict[str, Any]] = self.ask("SENTINEL MASTERS")
        return found.get(SERVICE)

    def ask(self, *command: str) -> Any:
        """Send one command and return its reply."""
        with redis.Redis(host=HOST, port=self.port, password=self._password or None, socket_timeout=5) as client:
            return client.execute_command(*command)

    def __enter__(self) -> Self:
        config = Path(self._dir.name) / "sentinel.conf"
        lines = [f"port {self.port}", f"bind {HOST}", f"dir {self._dir.name}"]
        config.write_text("\n".join(lines + ([f"requirepass {self._password}"] if self._password else [])) + "\n")
        with (Path(self._dir.name) / "log").open("wb") as log:
            self._process = TetheredProcess([str(find_binary()), str(config), "--sentinel"], output=log)
        until(self._answers, "the sentinel answers")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
        self._dir.cleanup()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False


def until(is_true: Any, what: str) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
