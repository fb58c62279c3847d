"""The programs refuse a server that may drop live streams: at their start, or when they first reach it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailplane.deploy import probe
from tailplane.deploy.child import Child, tailplane_command
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import HOST, free_port
from tests.sentinel_process import until

from .conftest import WORKFLOWS

pytestmark = pytest.mark.process

COMMANDS = {"control-plane": ("control-plane",), "worker": ("worker", str(WORKFLOWS))}


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """A server that drops keys when it is full."""
    with EmbeddedServer(config={"maxmemory-policy": "volatile-lru"}) as running:
        yield running


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Return a program by its name, on a server and with a port of its own; it ends with the test."""
    children = []

    def make(name: str, redis_url: str, port: int = 0) -> Child:
        env = {"TAILPLANE_REDIS_URL": redis_url, "TAILPLANE_HOST": HOST, "TAILPLANE_PORT": str(port)}
        child = Child(name, tailplane_command(*COMMANDS[name]), output=tmp_path / name, env=env)
        children.append(child)
        return child

    yield make
    for child in children:
        child.kill()


def assert_refused(child: Child) -> None:
    assert child.wait(60) == 1
    log = child.log_tail()
    assert "error: Redis is not fit for live streams: maxmemory-policy is volatile-lru" in log
    assert "hint:  set it in the server's configuration: maxmemory-policy noeviction" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program_does_not_start_on_a_server_that_may_drop_streams(
    server: EmbeddedServer, program: Callable[..., Child], name: str
) -> None:
    child = program(name, server.url)
    child.start()
    assert_refused(child)


def test_a_control_plane_that_waits_for_its_server_refuses_it_when_it_comes(
    server: EmbeddedServer, program: Callable[..., Child]
) -> None:
    port = free_port()
    url = f"http://{HOST}:{port}"
    server.kill()
    child = program("control-plane", server.url, port)
    child.start()
    until(lambda: probe.get_json(url, "/healthz", timeout=2) == (200, {"status": "ok"}), "the control plane lives")
    assert (probe.get_json(url, "/readyz", timeout=5) or (0,))[0] == 503
    server.start()
    assert_refused(child)


def test_a_worker_that_waits_for_its_server_refuses_it_when_it_comes(
    server: EmbeddedServer, program: Callable[..., Child]
) -> None:
    server.kill()
    child = program("worker", server.url)
    child.start()
    until(lambda: "Redis is away" in child.log_tail(), "the worker waits")
    server.start()
    assert_refused(child)
