"""One process of ours as a child of this one: started, watched, killed and started again under one name.

Used by the local cluster and by `worker --processes`. What the child writes goes to a log file, line by line to a sink
(the terminal of `dev`), or where this process writes; but for the last, its last lines are at hand when it fails.
"""

import collections
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tailplane.deploy.errors import ProcessFailed
from tailplane.deploy.logs import TAIL_LINES, log_tail
from tailplane.deploy.tether import TetheredProcess

Sink = Callable[[str, str], None]
"""Takes a child's name and a line that it wrote; called from a thread of that child's own."""

Output = Path | Sink | None


def tailplane_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line that runs one of our own commands with this interpreter."""
    # -P: a file in the current directory that is called like one of our imports must not be taken for it.
    return (sys.executable, "-P", "-m", "tailplane.deploy", *arguments)


class Child:
    """A named command and the process that runs it at present, if any."""

    def __init__(
        self,
        name: str,
        command: tuple[str, ...],
        *,
        output: Output,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Describe the child; nothing runs before `start`.

        Args:
            name: what logs and errors call it.
            command: program and arguments.
            output: a log file that is appended to, a sink of lines, or None for this process' own output.
            env: variables over those of this process.
            cwd: None for this process' own.
        """
        self.name = name
        self._command = command
        self._output = output
        self._env = dict(env or {})
        self._cwd = cwd
        self._process: TetheredProcess | None = None
        self._lines: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._pump: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The process id; of the last process if none runs now, None before the first."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code (negative for a signal); None while it runs and before the first start."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process; does nothing if it runs. Its readiness is the caller's question."""
        if self.is_running:
            return
        # Without PYTHONUNBUFFERED what a workflow prints would be seen at the end only.
        env = os.environ | {"PYTHONUNBUFFERED": "1"} | self._env
        if self._output is None:
            self._process = TetheredProcess(self._command, env=env, cwd=self._cwd)
            return
        if isinstance(self._output, Path):
            with self._output.open("ab") as log:
                self._process = TetheredProcess(self._command, env=env, cwd=self._cwd, output=log)
            return
        self._lines.clear()
        self._process = TetheredProcess(self._command, env=env, cwd=self._cwd, output=subprocess.PIPE)
        self._pump = threading.Thread(target=self._forward, args=(self._process, self._output), daemon=True)
        self._pump.start()

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, timeout: float | None) -> int | None:
        """Wait up to `timeout` seconds; return the exit code, None if it still lives. Its last lines are then known."""
        if self._process is None:
            return None
        returncode = self._process.wait(timeout)
        if returncode is not None and self._pump is not None:
            # Grandchildren may hold the pipe open: don't wait for them.
            self._pump.join(1.0)
        return returncode

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self.wait(None)

    def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL if it lives `grace` seconds later."""
        self.terminate()
        if self.wait(grace) is None:
            self.kill()

    def log_tail(self) -> str:
        """Return the last lines that it wrote."""
        return log_tail(self._output) if isinstance(self._output, Path) else "\n".join(self._lines)

    def failure(self, what: str) -> ProcessFailed:
        """Return the error that says of this child `what` and shows the end of its log."""
        self.wait(0)
        return ProcessFailed(self.name, what, returncode=self.returncode, log_tail=self.log_tail())

    def _forward(self, process: TetheredProcess, sink: Sink) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for raw in lines:
                line = raw.decode(errors="replace").rstrip("\r\n")
                self._lines.append(line)
                sink(self.name, line)
