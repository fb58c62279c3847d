"""Child processes of the harness: each in a group of its own, ended with all its children, also on Ctrl-C.

A process that is killed by SIGKILL leaves nobody behind here, since it can no longer act: its children end by
themselves where they are tethered (Tailplane's), and are the group to kill otherwise.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
_GRACE_S = 10.0


class Process:
    """A command in a process group of its own, with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process' id, which is its group's."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it does not run any more."""
        return self.exit_code is not None

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None: it runs."""
        return self._process.poll()

    def log_tail(self) -> str:
        """Return the end of what it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self) -> None:
        """End the process and its group: SIGTERM, then SIGKILL."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        # The leader is waited for last: until then its id can't belong to another group.
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def wait_for_http(url: str, process: Process, seconds: float = 30.0) -> None:
    """Return when `url` is answered.

    Raises:
        RuntimeError: the process ended, or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, OSError):
            if process.has_ended or time.monotonic() > deadline:
                raise RuntimeError(f"{url} is not answered; the log ends:\n{process.log_tail()}") from None
            time.sleep(0.05)


def wait_for_log(text: str, process: Process, seconds: float = 30.0) -> None:
    """Return when the process has written `text`.

    Raises:
        RuntimeError: it ended, or did not write it in time.
    """
    deadline = time.monotonic() + seconds
    while text not in process.log.read_text(errors="replace"):
        if process.has_ended or time.monotonic() > deadline:
            raise RuntimeError(f"a process did not write {text!r}; its log ends:\n{process.log_tail()}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_driver(arguments: Sequence[str], python: str, seconds: float) -> str:
    """Run the driver and return the last line of its output.

    Raises:
        RuntimeError: it failed, or took longer than `seconds`; with what it wrote.
    """
    command = [python, "-m", "benchmarks.drive", *arguments]
    driver = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = driver.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the driver took longer than {seconds:g} s") from None
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.communicate()
    if errors:
        print(errors, file=sys.stderr)
    if driver.returncode:
        raise RuntimeError(f"the driver failed: {errors.strip().splitlines()[-1] if errors.strip() else 'silently'}")
    return output.strip().splitlines()[-1]
