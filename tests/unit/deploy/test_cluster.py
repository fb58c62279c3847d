"""The local cluster, with all its processes."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tailplane.client import SyncClient, Unauthenticated
from tailplane.deploy import probe
from tailplane.deploy.child import Child
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.errors import DeadlinePassed, ProcessFailed
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id

pytestmark = [pytest.mark.process, pytest.mark.slow]


def lives(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def greeted(url: str, name: str) -> object:
    with SyncClient(url) as client:
        return client.run_workflow("greet", name).result(timeout=30)


def test_everything_is_ready_after_start_and_gone_after_stop(flows: Path) -> None:
    cluster = LocalCluster(Plan(target=str(flows), workers=2, control_planes=2)).start()
    processes = [child.pid for child in (*cluster.control_planes, *cluster.workers)] + [cluster.server.pid]
    assert len(processes) == 5
    assert all(probe.is_ready(url) for url in cluster.urls)
    assert probe.worker_pids(cluster.url) == {child.pid for child in cluster.workers}
    assert greeted(cluster.urls[1], "you") == "greeted you"
    log_dir = cluster.log_dir
    cluster.stop()
    assert not any(lives(pid) for pid in processes)
    assert not log_dir.exists()


def test_its_processes_can_be_killed_and_restarted(flows: Path, tmp_path: Path) -> None:
    with LocalCluster(Plan(target=str(flows), data_dir=tmp_path / "data")) as cluster:
        url = cluster.url
        before = cluster.workers[0].pid
        cluster.kill_worker()
        cluster.restart_worker()
        assert cluster.workers[0].pid != before
        assert greeted(url, "a") == "greeted a"

        cluster.kill_control_plane()
        assert not probe.is_ready(url)
        cluster.restart_control_plane()
        assert cluster.url == url
        assert greeted(url, "b") == "greeted b"

        cluster.kill_server()
        cluster.restart_server()
        assert greeted(url, "c") == "greeted c"
        with SyncClient(url) as client:
            assert sum(1 for _ in client.tasks()) == 3


def test_a_worker_that_ends_at_its_start_fails_the_cluster_with_its_log(tmp_path: Path) -> None:
    cluster = LocalCluster(Plan(target=str(tmp_path / "nothing.py")))
    with pytest.raises(ProcessFailed) as caught:
        cluster.start()
    assert caught.value.name == "worker-1"
    assert caught.value.returncode == 2
    assert "there is no file" in caught.value.log_tail
    assert not any(child.is_running for child in cluster.control_planes)
    assert not cluster.server.is_running


def test_what_is_not_ready_in_time_fails_the_cluster() -> None:
    cluster = LocalCluster(Plan(start_timeout=0.2))
    with pytest.raises(DeadlinePassed, match="control-plane was not ready within"):
        cluster.start()
    assert not any(child.is_running for child in cluster.control_planes)


def test_a_cluster_without_a_target_has_no_workers() -> None:
    with LocalCluster(Plan()) as cluster:
        assert cluster.workers == []
        assert probe.get_json(cluster.url, "/v1/workers") == (200, {"workers": []})


def test_the_processes_stop_in_order(flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[str] = []
    kill, stop = Child.kill, EmbeddedServer.stop

    def noted_kill(child: Child) -> None:
        # What makes sure of a child's end, after its SIGTERM.
        kill(child)
        ends.append(child.name)

    def noted_stop(server: EmbeddedServer, grace: float = 10.0) -> None:
        stop(server, grace)
        ends.append("valkey")

    monkeypatch.setattr(Child, "kill", noted_kill)
    monkeypatch.setattr(EmbeddedServer, "stop", noted_stop)
    cluster = LocalCluster(Plan(target=str(flows))).start()
    cluster.stop()
    assert ends == ["control-plane", "worker-1", "valkey"]
    assert cluster.control_planes[0].returncode == cluster.workers[0].returncode == 0


def test_sigterm_ends_a_worker_and_a_control_plane_with_exit_code_0(flows: Path) -> None:
    with LocalCluster(Plan(target=str(flows))) as cluster:
        for child in (*cluster.workers, *cluster.control_planes):
            assert child.pid is not None
            os.kill(child.pid, signal.SIGTERM)
            assert child.wait(30) == 0


def test_what_the_environment_says_of_another_deployment_does_not_get_in(
    flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, token = ApiKey.draw(new_key_id()), "a-token-for-metrics-only"
    for name, value in {
        "AUTH": "keys",
        "ADMIN_KEY": key.text,
        "API_KEY": key.text,
        "HOST": "0.0.0.0",
        "METRICS_HOST": "0.0.0.0",
        "METRICS_PORT": "1",
        "METRICS_TOKEN": token,
    }.items():
        monkeypatch.setenv(f"TAILPLANE_{name}", value)
    with LocalCluster(Plan(target=str(flows))) as cluster:
        # Signed with a key that nobody has there, as the user's commands do.
        assert greeted(cluster.url, "you") == "greeted you"
        logs = "".join(path.read_text() for path in cluster.log_dir.iterdir())
        environments = [
            Path(f"/proc/{child.pid}/environ").read_bytes().decode()
            for child in (*cluster.control_planes, *cluster.workers)
            if sys.platform == "linux"
        ]
    for secret in (key.secret, token):
        assert secret not in logs + "".join(environments)
    # The default is loopback: what it was started with, it could be reached by.
    assert all("TAILPLANE_HOST=127.0.0.1\0" in each for each in environments[:1])


def test_a_plan_with_a_key_demands_it(flows: Path) -> None:
    key = ApiKey.draw(new_key_id())
    plan = Plan(target=str(flows), api_key=key.text)
    assert key.secret not in repr(plan)
    with LocalCluster(plan) as cluster, SyncClient(cluster.url, api_key=key.text) as client:
        assert client.run_workflow("greet", "you").result(timeout=30) == "greeted you"
        with SyncClient(cluster.url, api_key="") as nobody, pytest.raises(Unauthenticated):
            nobody.workflows()


@pytest.mark.skipif(sys.platform != "linux", reason="reads environments and command lines in /proc")
def test_workflows_are_not_told_the_key_of_the_control_planes(flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ApiKey.draw(new_key_id())
    monkeypatch.setenv("TAILPLANE_API_KEY", key.text)
    monkeypatch.setenv("TAILPLANE_ADMIN_KEY", key.text)
    with LocalCluster(Plan(target=str(flows), api_key=key.text)) as cluster:
        told = {
            child.name: Path(f"/proc/{child.pid}/environ").read_bytes().decode()
            for child in (*cluster.control_planes, *cluster.workers)
        }
        lines = [
            Path(f"/proc/{child.pid}/cmdline").read_bytes().decode()
            for child in (*cluster.control_planes, *cluster.workers)
        ]
    assert [name for name, environment in told.items() if key.secret in environment] == ["control-plane"]
    assert key.secret not in "".join(lines)
