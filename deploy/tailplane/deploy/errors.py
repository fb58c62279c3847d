"""What can go wrong while processes are started, watched and stopped.

    TailplaneError
    `-- DeployError
        |-- MissingExtra         a package that this command needs is not installed
        |-- ProcessFailed        a child did not become ready, or died; carries the tail of its log
        |   `-- DeadlinePassed   it was not ready in time
        |-- PortInUse            the asked-for port belongs to another process
        `-- DataDirInUse         another living process owns the data directory

None of them crosses the wire: they are shown on this machine, with their hint.
"""

from pathlib import Path

from tailplane.protocol.errors import TailplaneError


class DeployError(TailplaneError):
    """The root of this part's errors: something about the processes on this machine."""

    title = "The local cluster has a problem"


class MissingExtra(DeployError):
    """A package that this command needs is not installed; the hint says how to get it."""

    title = "A package is missing"


class ProcessFailed(DeployError):
    """A child process did not become ready, or died.

    Attributes:
        name: which child.
        returncode: its exit code, negative for a signal; None while it lives.
        log_tail: the last lines that it wrote.
    """

    title = "A process failed"

    def __init__(self, name: str, what: str, *, returncode: int | None = None, log_tail: str = "") -> None:
        super().__init__(f"{name} {what}")
        self.name = name
        self.returncode = returncode
        self.log_tail = log_tail

    def __str__(self) -> str:
        if not self.log_tail:
            return f"{self.detail}; it wrote nothing"
        return f"{self.detail}; the end of its log:\n{self.log_tail}"


class DeadlinePassed(ProcessFailed):
    """A child process was not ready in time."""


class PortInUse(DeployError):
    """The asked-for port belongs to another process."""

    def __init__(self, port: int, flag: str = "--port") -> None:
        super().__init__(
            f"port {port} is in use by another process",
            hint=f"stop that process (lsof -i :{port} names it), or choose another with {flag}",
        )
        self.port = port


class DataDirInUse(DeployError):
    """Another living process owns the data directory.

    Attributes:
        pid: the owner, if it is known.
    """

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        owner = f"process {pid}" if pid else "another process"
        stop = f"stop it (kill {pid})" if pid else "stop it"
        super().__init__(
            f"the data directory {data_dir} is in use by {owner}",
            hint=f"{stop}, or give another directory with --data-dir",
        )
        self.pid = pid
