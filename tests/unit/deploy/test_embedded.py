"""The embedded server, each time the real one."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tailplane.deploy.data_dir import DataDirLock, ServerRecord
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.errors import DataDirInUse, DeployError, PortInUse, ProcessFailed
from tailplane.deploy.ports import free_port
from tailplane.deploy.valkey_binary import find_binary

pytestmark = pytest.mark.process


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


def connect(server: EmbeddedServer) -> Redis:
    return Redis.from_url(server.url, decode_responses=True)


def wait_for_end(port: int, deadline: float = 10.0) -> None:
    """Return when the server on `port` closed the connection: the kernel does so when the process ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=deadline) as connection:
        assert connection.recv(1) == b""


def test_it_answers_after_start_and_is_gone_after_stop() -> None:
    server = EmbeddedServer().start()
    with connect(server) as redis:
        assert redis.ping()
        assert redis.config_get("maxmemory-policy", "bind") == {"maxmemory-policy": "noeviction", "bind": "127.0.0.1"}
    directory = server.data_dir
    server.stop()
    assert server.pid is None
    assert not directory.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_it_runs_in_a_session_of_its_own(server: EmbeddedServer) -> None:
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid


def test_starting_a_running_server_changes_nothing(server: EmbeddedServer) -> None:
    before = server.pid
    assert server.start().pid == before


def test_a_killed_server_comes_back_on_its_port_with_what_persist_kept(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, persist=True) as server:
        with connect(server) as redis:
            redis.set("kept", "yes")
        before = server.url
        server.kill()
        assert server.pid is None
        server.start()
        assert server.url == before
        with connect(server) as redis:
            assert redis.get("kept") == "yes"


def test_a_temporary_server_keeps_its_directory_over_a_kill() -> None:
    with EmbeddedServer(persist=True) as server:
        with connect(server) as redis:
            redis.set("kept", "yes")
        server.kill()
        server.start()
        with connect(server) as redis:
            assert redis.get("kept") == "yes"


def test_without_persist_a_stop_forgets_everything(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    with server, connect(server) as redis:
        redis.set("kept", "no")
    with server, connect(server) as redis:
        assert redis.get("kept") is None


def test_more_settings_go_over_ours() -> None:
    settings: dict[str, str | int | bool | tuple[str, ...]] = {
        "maxmemory": "100mb",
        "maxmemory-policy": "allkeys-lru",
        "client-output-buffer-limit": ("normal", "0", "0", "0"),
    }
    with EmbeddedServer(config=settings) as server, connect(server) as redis:
        wanted = {"maxmemory": "104857600", "maxmemory-policy": "allkeys-lru"}
        assert redis.config_get("maxmemory", "maxmemory-policy") == wanted


def test_a_directory_of_a_living_server_is_refused_and_its_owner_named(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path), pytest.raises(DataDirInUse) as caught:
        EmbeddedServer(tmp_path).start()
    assert caught.value.pid == os.getpid()
    assert str(os.getpid()) in caught.value.detail
    assert "--data-dir" in (caught.value.hint or "")


def test_a_stopped_server_frees_its_directory(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path):
        pass
    with EmbeddedServer(tmp_path) as server:
        assert server.is_running


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            EmbeddedServer(port=port).start()
    assert caught.value.port == port


def test_a_failed_start_shows_the_servers_log() -> None:
    with pytest.raises(ProcessFailed) as caught:
        EmbeddedServer(config={"no-such-setting": 1}).start()
    assert "no-such-setting" in caught.value.log_tail
    assert caught.value.returncode not in (0, None)


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match="can't be used"):
        EmbeddedServer(tmp_path / "file" / "inside").start()


def test_the_server_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from tailplane.deploy.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(sys.argv[1]).start()\n"
        "print(server.port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        owner.kill()
        wait_for_end(port)
    with EmbeddedServer(tmp_path) as server:
        assert server.is_running


def leave_behind(data_dir: Path) -> "subprocess.Popen[bytes]":
    """Start a server from `data_dir` as an owner that was killed would leave it: no lock, but a record."""
    config = data_dir / "valkey.conf"
    port = free_port()
    config.write_text(f"bind 127.0.0.1\nport {port}\ndir {data_dir}\nset-proc-title no\nappendonly yes\nsave ''\n")
    leftover = subprocess.Popen([find_binary(), config], stdout=subprocess.PIPE)
    assert leftover.stdout is not None
    assert any(b"Ready to accept" in line for line in leftover.stdout)
    with Redis(port=port) as redis:
        redis.set("kept", "yes")
    lock = DataDirLock(data_dir)
    lock.record(ServerRecord(leftover.pid, port, str(config)))
    lock.release()
    return leftover


@pytest.mark.parametrize("hangs", [False, True])
def test_a_server_left_behind_is_ended_and_its_data_kept(tmp_path: Path, hangs: bool) -> None:
    with leave_behind(tmp_path) as leftover:
        if hangs:
            leftover.send_signal(signal.SIGSTOP)
        lock = DataDirLock(tmp_path)
        assert lock.end_leftover(grace=0.3 if hangs else 10) == leftover.pid
        lock.release()
        assert leftover.wait(10) == (-signal.SIGKILL if hangs else 0)
    with EmbeddedServer(tmp_path, persist=True) as server, connect(server) as redis:
        assert redis.get("kept") == "yes"


def test_a_stranger_that_got_the_recorded_pid_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        record = {"pid": stranger.pid, "port": 1, "config": str(tmp_path / "valkey.conf")}
        (tmp_path / "server.json").write_text(json.dumps(record))
        with EmbeddedServer(tmp_path):
            assert stranger.poll() is None
        stranger.communicate(b"\n")
        assert stranger.returncode == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_does_not_stop_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    with EmbeddedServer(tmp_path) as server:
        assert server.is_running
