"""`tailplane top` on a real cluster and a real terminal."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tailplane.client import SyncClient
from tailplane.deploy.child import tailplane_command
from tailplane.deploy.cluster import LocalCluster, Plan

from .conftest import WORKFLOWS

pytestmark = [pytest.mark.process, pytest.mark.slow]

# Seconds, on a busy machine.
DEADLINE = 30
# What enters and leaves the second screen, and hides and shows the cursor.
ENTER, LEAVE, SHOW = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[LocalCluster]:
    """A cluster whose control plane may be killed."""
    with LocalCluster(Plan(target=str(WORKFLOWS))) as running:
        yield running


def run(cluster: LocalCluster, *options: str) -> str:
    command = tailplane_command("top", "--url", cluster.url, *options)
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout


def test_once_as_text_and_as_json(own_cluster: LocalCluster) -> None:
    with SyncClient(own_cluster.url) as client:
        client.run_workflow("echo", 1).result(timeout=DEADLINE)
    assert "1 worker  0/100 tasks run  0 wait  0 dead letters" in run(own_cluster, "--once")
    # Into a pipe it does not go on for ever.
    assert "submitted:" in run(own_cluster)
    found = json.loads(run(own_cluster, "--json"))
    assert found["ended_lately"]["succeeded"] == 1
    assert found["workers"][0]["pid"] == own_cluster.workers[0].pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_outlives_a_control_plane_and_gives_the_terminal_back(
    own_cluster: LocalCluster, number: signal.Signals
) -> None:
    ours, its = pty.openpty()
    command = tailplane_command("top", "--url", own_cluster.url, "--interval", "0.5")
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "160", "LINES": "50"}
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=env) as top:
        try:
            os.close(its)
            until_shown(ours, ENTER)
            until_shown(ours, b"echo")
            own_cluster.kill_control_plane()
            until_shown(ours, b"no answer since")
            own_cluster.restart_control_plane()
            until_shown(ours, b"tasks/s")
            top.send_signal(number)
            shown = until_shown(ours, LEAVE)
            assert SHOW in shown + rest(ours)
            assert top.wait(DEADLINE) == 0
        finally:
            top.kill()
            os.close(ours)


def until_shown(terminal: int, wanted: bytes) -> bytes:
    """Read until something was shown; return what was."""
    shown, deadline = b"", time.monotonic() + DEADLINE
    while wanted not in shown:
        assert time.monotonic() < deadline, shown[-2000:]
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65536)
    return shown


def rest(terminal: int) -> bytes:
    """Read what is left; on Linux the end of the other side is an error."""
    shown = b""
    try:
        while select.select([terminal], [], [], 2.0)[0] and (piece := os.read(terminal, 65536)):
            shown += piece
    except OSError:
        pass
    return shown
