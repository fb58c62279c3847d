"""Who owns a data directory: two servers on one append-only file would destroy it.

The owner is the process that holds the lock on `owner.lock`; the kernel frees it however that process ends. The file
`server.json` says which server runs from the directory, so that the next owner can end one that was left behind.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tailplane.deploy.errors import DataDirInUse, DeployError

_LOCK = "owner.lock"
_RECORD = "server.json"


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """The server that runs, or ran, from a data directory."""

    pid: int
    port: int
    config: str


def is_in_use(path: Path) -> bool:
    """Whether a living process runs a server from the directory; true for a moment only."""
    try:
        fd = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


class DataDirLock:
    """The right to run a server from a directory; held until `release` or the end of this process."""

    def __init__(self, path: Path) -> None:
        """Take the directory, making it if need be.

        Raises:
            DataDirInUse: a living process holds it.
            DeployError: it can't be made or written.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DeployError(
                f"the data directory {path} can't be used: {error.strerror}",
                hint="give a directory that you may write to with --data-dir",
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._fd, 32).strip()
            os.close(self._fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise DeployError(f"the data directory {path} can't be locked: {error.strerror}") from None
            raise DataDirInUse(path, int(owner) if owner.isdigit() else None) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Give the directory back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def record(self, server: ServerRecord) -> None:
        """Note which server runs from here; written whole or not at all."""
        draft = self.path / f"{_RECORD}.new"
        draft.write_text(json.dumps(asdict(server)))
        draft.replace(self.path / _RECORD)

    def forget(self) -> None:
        """Note that no server runs from here."""
        (self.path / _RECORD).unlink(missing_ok=True)

    def end_leftover(self, grace: float) -> int | None:
        """End the server that an owner which was killed left running; return its pid, or None if there was none.

        It is ended rather than adopted: nobody can wait for a process that is not his child, its port and settings are
        those of another run, and with the append-only file a fresh start costs a tenth of a second and loses nothing.
        The pid alone proves nothing, it may have been given to another program: the command line must name our config.
        """
        try:
            server = ServerRecord(**json.loads((self.path / _RECORD).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        ended = _end(server, grace)
        self.forget()
        return server.pid if ended else None


def _end(server: ServerRecord, grace: float) -> bool:
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        if server.config not in _command_line(server.pid):
            return number == signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and server.config in _command_line(server.pid):
            time.sleep(0.005)
    return True


def _command_line(pid: int) -> str:
    """Return the command line of a process; empty if there is none such, or it has ended and waits to be reaped."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return listed.stdout
