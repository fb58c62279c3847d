"""Runs the examples as users do: as processes, against a real cluster that each module starts once as `cluster`.

Most of these clusters demand an API key, which the examples find in their environment; some ask nobody.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tailplane.deploy.cluster import LocalCluster

    from .sites import Tab

#: Seconds after which a script has failed; none that works comes near it.
DEADLINE = 60

#: The arrival and the text of a line that a script prints.
Line = tuple[float, str]


class Script:
    """A running script. `lines` yields what it prints, with the time of each line's arrival, to the end."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def exit_code(self) -> int:
        return self._process.wait(DEADLINE)

    def lines(self) -> Iterator[Line]:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            yield time.time(), raw.decode().rstrip("\n")

    def read_until(self, text: str) -> str:
        """Return what it writes up to and with `text`, be that a whole line or not; or to its end."""
        assert self._process.stdout is not None
        seen = b""
        while not seen.endswith(text.encode()) and (byte := self._process.stdout.read(1)):
            seen += byte
        return seen.decode()


@pytest.fixture(scope="session")
def api_key() -> Iterator[str]:
    """A key that clusters may demand, and that programs and clients find in the environment meanwhile."""
    from tailplane.protocol.credentials import ApiKey
    from tailplane.protocol.ids import new_key_id

    key = ApiKey.draw(new_key_id()).text
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TAILPLANE_API_KEY", key)
        yield key


RunScript = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def examples() -> Path:
    return Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def run_script(cluster: "LocalCluster", examples: Path, tmp_path: Path) -> RunScript:
    """Run an example's script to its end, in an empty directory."""

    def run(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, examples / script, *arguments],
            cwd=tmp_path,
            env=os.environ | {"TAILPLANE_URL": cluster.url},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    return run


@pytest.fixture
def start_script(cluster: "LocalCluster", examples: Path, tmp_path: Path) -> Callable[..., object]:
    """Start an example's script; a context manager that gives a `Script`. Its errors come among its lines."""

    @contextmanager
    def start(script: str, *arguments: str) -> Iterator[Script]:
        process = subprocess.Popen(
            [sys.executable, examples / script, *arguments],
            cwd=tmp_path,
            env=os.environ | {"TAILPLANE_URL": cluster.url, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        # Reading its output ends with it, at the latest at the deadline.
        deadline = threading.Timer(DEADLINE, process.kill)
        deadline.start()
        try:
            with process:
                yield Script(process)
        finally:
            deadline.cancel()
            process.kill()

    return start


@pytest.fixture
def tab(tmp_path: Path) -> "Iterator[Tab]":
    """A tab of a browser; the test is skipped where there is none."""
    from .sites import browser_tab

    with browser_tab(tmp_path / "profile") as opened:
        yield opened
