"""`tailplane dev` and `tailplane worker --processes`, as a person runs them."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailplane.client import SyncClient
from tailplane.deploy import probe
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.dev_session import default_data_dir
from tailplane.deploy.ports import free_port

pytestmark = [pytest.mark.process, pytest.mark.slow]

FLOWS = """
from tailplane.workers import workflow

@workflow
async def {name}(ctx):
    ctx.write_event_to_stream("from {name}")
    return "{name}"
"""


class Program:
    """A program in the foreground, read line by line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.seen: list[str] = []

    def wait_for(self, words: str) -> str:
        """Return the next line that contains `words`."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                self.seen.append(line)
                if words in line:
                    return line
        finally:
            watchdog.cancel()
        raise AssertionError(f"{words!r} was not said:\n{''.join(self.seen)}")

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send a signal, wait for the end, and return what else was said."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        return rest


@contextmanager
def program(*arguments: str, cwd: Path, **env: str) -> Iterator[Program]:
    with subprocess.Popen(
        [sys.executable, "-m", "tailplane.deploy", *arguments],
        cwd=cwd,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "flows.py").write_text(FLOWS.format(name="first"))
    return folder


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return ["--port", str(free_port()), "--data-dir", str(tmp_path / "data")]


def result(url: str, name: str) -> object:
    with SyncClient(url) as client:
        return client.run_workflow(name).result(timeout=30)


def test_dev_runs_everything_and_stops_in_order(project: Path, arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{arguments[1]}"
    with program("dev", "flows.py", *arguments, "--workers", "2", cwd=project) as dev:
        assert url in dev.wait_for("control plane  ")
        assert "first" in dev.wait_for("workers ready  ")
        assert len(probe.worker_pids(url)) == 2
        assert result(url, "first") == "first"
        rest = dev.interrupt()
    assert dev.process.returncode == 0
    assert rest.rstrip().endswith("stopped")
    assert "stopping: control plane, workers, valkey" in rest
    assert "starting again" not in rest
    assert not probe.is_ready(url)


def test_dev_says_that_it_heeds_no_keys(project: Path, arguments: list[str]) -> None:
    with program("dev", "flows.py", *arguments, cwd=project, TAILPLANE_AUTH="keys") as dev:
        dev.wait_for("nobody has to: `dev` leaves TAILPLANE_AUTH and TAILPLANE_ADMIN_KEY out")
        assert "TAILPLANE_REDIS_URL=redis://127.0.0.1:" in dev.wait_for("tailplane control-plane --port 8421")
        dev.interrupt()
    assert dev.process.returncode == 0


def test_dev_keeps_its_data_from_one_run_to_the_next(project: Path, arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{arguments[1]}"
    for runs in (1, 2):
        with program("dev", "flows", *arguments, cwd=project) as dev:
            dev.wait_for("workers ready  ")
            assert result(url, "first") == "first"
            with SyncClient(url) as client:
                assert sum(1 for _ in client.tasks()) == runs
            dev.interrupt(signal.SIGTERM)
        assert dev.process.returncode == 0


def test_dev_starts_workers_again_when_code_changes_and_when_it_is_broken_waits(
    project: Path, arguments: list[str]
) -> None:
    url = f"http://127.0.0.1:{arguments[1]}"
    with program("dev", "flows.py:second", *arguments, cwd=project) as dev:
        (project / "flows.py").write_text("this is no python")
        dev.wait_for("worker-1")
        dev.wait_for("SyntaxError")
        dev.wait_for("waiting for a change of the source")
        (project / "flows.py").write_text(FLOWS.format(name="second"))
        dev.wait_for("flows.py changed")
        assert "second" in dev.wait_for("workers ready  ")
        assert result(url, "second") == "second"
        dev.interrupt()
    assert dev.process.returncode == 0


def test_dev_greets_with_a_command_that_works_as_it_stands(project: Path, arguments: list[str]) -> None:
    (project / "flows.py").write_text(FLOWS.format(name="first").replace("(ctx)", "(ctx, name: str)"))
    with program("dev", "flows.py", *arguments, cwd=project) as dev:
        _, _, command = dev.wait_for("tailplane run ").partition("try            ")
        tailplane = shlex.join([sys.executable, "-m", "tailplane.deploy"])
        script = command.replace("tailplane run", f"{tailplane} run")
        done = subprocess.run(script, shell=True, cwd=project, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "from first" in done.stdout
        dev.interrupt()


def test_dev_that_cannot_load_its_target_and_does_not_watch_says_why_once(project: Path, arguments: list[str]) -> None:
    (project / "flows.py").write_text("this is no python")
    with program("dev", "flows.py", *arguments, "--no-reload", cwd=project) as dev:
        said, _ = dev.process.communicate(timeout=60)
    assert dev.process.returncode == 1
    assert said.count("SyntaxError") == 1
    assert "error: worker-1 can't load its target" in said


def test_dev_names_what_died_and_starts_it_again(project: Path, arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{arguments[1]}"
    with program("dev", "flows.py", *arguments, cwd=project) as dev:
        dev.wait_for("workers ready  ")
        (pid,) = probe.worker_pids(url)
        os.kill(pid, signal.SIGKILL)
        assert dev.wait_for("was killed by signal 9; starting again in 0.5 s").startswith("worker-1")
        assert result(url, "first") == "first"
        record = json.loads((Path(arguments[3]) / "server.json").read_text())
        os.kill(record["pid"], signal.SIGKILL)
        assert dev.wait_for("was killed by signal 9; starting again in 0.5 s").startswith("valkey")
        assert result(url, "first") == "first"
        with SyncClient(url) as client:
            assert sum(1 for _ in client.tasks()) == 2
        dev.interrupt()


def test_dev_ends_with_its_processes_when_it_is_killed(project: Path, arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{arguments[1]}"
    with program("dev", "flows.py", *arguments, cwd=project) as dev:
        dev.wait_for("workers ready  ")
        dev.process.kill()
        # All of them write to pipes of ours: the end of ours means that none is left.
        dev.process.communicate(timeout=60)
    with program("dev", "flows.py", *arguments, cwd=project) as again:
        again.wait_for("workers ready  ")
        assert result(url, "first") == "first"
        again.interrupt()
    assert again.process.returncode == 0


def test_dev_refuses_a_directory_in_use_and_a_target_that_is_not_there(project: Path, arguments: list[str]) -> None:
    with program("dev", "nowhere.py", *arguments, cwd=project) as dev:
        said, _ = dev.process.communicate(timeout=60)
    assert dev.process.returncode == 1
    assert said.count("there is no file") == 1
    assert not Path(arguments[3]).exists()
    with program("dev", *arguments, cwd=project) as first:
        first.wait_for("no workers here")
        port = str(free_port())
        with program("dev", "--port", port, *arguments[2:], cwd=project) as second:
            said, _ = second.process.communicate(timeout=60)
        assert second.process.returncode == 1
        assert f"is in use by process {first.process.pid}" in said
        with program("dev", *arguments[:2], "--data-dir", str(project / "other"), cwd=project) as third:
            said, _ = third.process.communicate(timeout=60)
        assert third.process.returncode == 1
        assert f"port {arguments[1]} is in use" in said
        assert "--data-dir" not in said
        with program("dev", *arguments, cwd=project) as fourth:
            said, _ = fourth.process.communicate(timeout=60)
        assert "choose another with --port, and another place with --data-dir" in said
        first.interrupt()


def test_several_worker_processes_run_and_stop_as_one(project: Path) -> None:
    with LocalCluster(Plan()) as cluster:
        env = {"TAILPLANE_REDIS_URL": cluster.redis_url}
        with program("worker", "flows.py", "--processes", "2", cwd=project, **env) as pool:
            cluster.wait_until(lambda: len(probe.worker_pids(cluster.url)) == 2, "two workers")
            assert result(cluster.url, "first") == "first"
            os.kill(min(probe.worker_pids(cluster.url)), signal.SIGKILL)
            pool.wait_for("was killed by signal 9")
            rest = pool.interrupt(signal.SIGTERM)
            assert pool.process.returncode == 0, rest


def test_worker_processes_that_cannot_load_their_target_end_with_exit_code_2(project: Path) -> None:
    with program("worker", "nowhere.py", "--processes", "2", cwd=project) as pool:
        said, _ = pool.process.communicate(timeout=60)
    assert pool.process.returncode == 2
    assert "there is no file" in said


@pytest.mark.parametrize(
    ("environment", "platform", "place"),
    [
        ({}, "linux", ".local/share/tailplane"),
        ({"XDG_DATA_HOME": "relative"}, "linux", ".local/share/tailplane"),
        ({}, "darwin", "Library/Application Support/tailplane"),
    ],
)
def test_the_data_directory_is_where_the_platform_has_it(
    project: Path, environment: dict[str, str], platform: str, place: str
) -> None:
    assert default_data_dir("flows.py", project, environment, platform).parent == Path.home() / place


def test_the_data_directory_follows_xdg(project: Path) -> None:
    assert default_data_dir(None, project, {"XDG_DATA_HOME": "/data"}, "linux").parent == Path("/data/tailplane")


def test_each_project_and_target_has_a_data_directory_of_its_own(project: Path, tmp_path: Path) -> None:
    namesake = tmp_path / "elsewhere" / "project"
    namesake.mkdir(parents=True)
    found = [default_data_dir(*each) for each in (("flows.py", project), ("other", project), ("flows.py", namesake))]
    assert len(set(found)) == 3
    assert all(re.fullmatch(r"project-[0-9a-f]{8}", each.name) for each in found)
    assert default_data_dir("project/flows.py", tmp_path) == found[0]
