"""The port for probes and metrics of real processes: what it says while they start, work, stand still and stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tailplane.client import SyncClient
from tailplane.deploy import probe
from tailplane.deploy.child import tailplane_command
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.ports import HOST, free_port, is_free

from .conftest import WORKFLOWS

pytestmark = [pytest.mark.process, pytest.mark.slow]

# Seconds. Within this time a probe must change its mind, on a busy machine.
DEADLINE = 30


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that are free."""
    while True:
        first = free_port()
        if all(is_free(first + index) for index in range(count)):
            return first


@pytest.fixture(scope="module")
def first() -> int:
    """The control plane's port for probes; the worker's is the next."""
    return free_ports(2)


@pytest.fixture(scope="module")
def cluster(first: int) -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target=str(WORKFLOWS), metrics_port=first, drain=DEADLINE)) as running:
        yield running


def ask(port: int, path: str) -> tuple[int, Any]:
    answer = probe.get_json(f"http://{HOST}:{port}", path, timeout=5)
    assert answer is not None, f"nobody answers on {port}"
    return answer


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_programs_live_and_are_ready(cluster: LocalCluster, first: int) -> None:
    for port in (first, first + 1):
        assert ask(port, "/livez")[0] == 200
        until(lambda port=port: ask(port, "/readyz") == (200, {"status": "ready"}), "ready")


def test_a_blocked_workflow_is_told_of_and_kills_nobody(cluster: LocalCluster, first: int) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("block", 3)
        until(lambda: ask(first + 1, "/livez")[1]["workflows_loop_blocked_s"] > 1, "the block is seen")
        assert ask(first + 1, "/livez")[0] == 200
        assert ask(first + 1, "/readyz")[0] == 200
        until(lambda: ask(first + 1, "/livez")[1]["workflows_loop_blocked_s"] == 0, "the block is over")
        task.result(timeout=DEADLINE)


def test_a_control_plane_without_its_store_lives_but_is_not_ready(cluster: LocalCluster, first: int) -> None:
    cluster.kill_server()
    until(lambda: ask(first, "/readyz")[0] == 503, "the control plane is not ready")
    until(lambda: ask(first + 1, "/readyz")[0] == 503, "the worker can't renew its lease")
    assert (ask(first, "/livez")[0], ask(first + 1, "/livez")[0]) == (200, 200)
    cluster.restart_server()
    for port in (first, first + 1):
        until(lambda port=port: ask(port, "/readyz")[0] == 200, "ready again")


def test_a_worker_that_drains_lives_but_is_not_ready(cluster: LocalCluster, first: int) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("count", {"n": 30, "pause": 0.1})
        until(lambda: task.status().state == "running", "it runs")
        cluster.workers[0].terminate()
        until(lambda: ask(first + 1, "/readyz") == (503, {"status": "not ready", "reason": "this worker drains"}), "no")
        assert ask(first + 1, "/livez")[0] == 200
        assert task.result(timeout=DEADLINE) == 30
    cluster.restart_worker(0)


def test_the_command_says_it_by_its_exit_code(cluster: LocalCluster, first: int) -> None:
    def run(url: str) -> int:
        command = (sys.executable, "-m", "tailplane.deploy.probe", url)
        return subprocess.run(command, check=False, timeout=DEADLINE).returncode

    assert run(f"http://{HOST}:{first}/livez") == 0
    assert run(f"http://{HOST}:{first}/nothing") == 1
    assert run(f"http://{HOST}:{free_port()}/livez") == 1


@pytest.mark.parametrize(
    "command", [("control-plane",), ("worker", str(WORKFLOWS)), ("worker", str(WORKFLOWS), "--processes", "2")]
)
def test_a_port_in_use_is_said_at_the_start(cluster: LocalCluster, first: int, command: tuple[str, ...]) -> None:
    env = os.environ | {
        "TAILPLANE_REDIS_URL": cluster.redis_url,
        "TAILPLANE_METRICS_PORT": str(first),
        "TAILPLANE_PORT": str(free_port()),
    }
    ended = subprocess.run(
        tailplane_command(*command), check=False, env=env, capture_output=True, text=True, timeout=DEADLINE
    )
    assert ended.returncode == 1
    assert str(first) in ended.stderr
    assert "in use" in ended.stderr
    assert "TAILPLANE_METRICS_PORT" in ended.stderr


def test_each_process_of_a_pool_has_a_port(cluster: LocalCluster) -> None:
    port = free_ports(2)
    env = os.environ | {"TAILPLANE_REDIS_URL": cluster.redis_url, "TAILPLANE_METRICS_PORT": str(port)}
    pool = subprocess.Popen(tailplane_command("worker", str(WORKFLOWS), "--processes", "2"), env=env)
    try:
        for each in (port, port + 1):
            until(lambda each=each: (probe.get_json(f"http://{HOST}:{each}", "/readyz") or [0])[0] == 200, "ready")
    finally:
        pool.send_signal(signal.SIGTERM)
        assert pool.wait(DEADLINE) == 0
