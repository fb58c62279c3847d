"""Programs that others reach do not start where everybody could come in, unless somebody has said so by name."""

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailplane.deploy import probe
from tailplane.deploy.child import Child, tailplane_command
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import HOST, free_port
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id
from tests.sentinel_process import until

from .conftest import WORKFLOWS

pytestmark = pytest.mark.process

COMMANDS = {"control-plane": ("control-plane",), "worker": ("worker", str(WORKFLOWS))}
KEY = ApiKey.draw(new_key_id())
TOKEN = "a-token-for-metrics-only"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def program(server: EmbeddedServer, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start a program with these variables, on a deployment of the test's own; it ends with the test."""
    children = []

    def start(name: str, port: int = 0, *arguments: str, **env: str) -> Child:
        ours = {
            "TAILPLANE_REDIS_URL": server.url,
            "TAILPLANE_PREFIX": tmp_path.name,
            "TAILPLANE_PORT": str(port),
            "TAILPLANE_AUTH": "",
            "TAILPLANE_ADMIN_KEY": "",
            "TAILPLANE_METRICS_TOKEN": "",
        }
        said = {f"TAILPLANE_{key}": value for key, value in env.items()}
        child = Child(name, tailplane_command(*COMMANDS[name], *arguments), output=tmp_path / name, env=ours | said)
        children.append(child)
        child.start()
        return child

    yield start
    for child in children:
        child.kill()


def serves(port: int) -> str:
    url = f"http://{HOST}:{port}"
    until(lambda: probe.is_ready(url, timeout=5), "the control plane serves")
    return url


def test_a_control_plane_that_others_reach_does_not_start_without_keys(program: Callable[..., Child]) -> None:
    child = program("control-plane", free_port(), HOST="0.0.0.0")
    assert child.wait(60) == 1
    log = child.log_tail()
    assert "error: this control plane listens on 0.0.0.0, where requests need an API key, and none is good" in log
    assert "hint:  `tailplane keys create --direct --name NAME --scopes admin` makes one" in log
    assert "TAILPLANE_AUTH=none" in log
    assert "Traceback" not in log


def test_where_it_is_told_so_by_name_everybody_comes_in(program: Callable[..., Child]) -> None:
    port = free_port()
    program("control-plane", port, HOST="0.0.0.0", AUTH="none")
    assert probe.get_json(serves(port), "/v1/workers", 5) == (200, {"workers": []})


def test_with_the_key_that_its_environment_names_it_serves_and_demands(program: Callable[..., Child]) -> None:
    port = free_port()
    child = program("control-plane", port, HOST="0.0.0.0", ADMIN_KEY=KEY.text)
    url = serves(port)
    assert (probe.get_json(url, "/v1/workers", 5) or (0,))[0] == 401
    # Ready is who reaches Redis: the key is there a moment later.
    until(lambda: probe.get_json(url, "/v1/workers", 5, KEY.text) == (200, {"workers": []}), "the key is known")
    assert KEY.secret not in child.log_tail()


def test_keys_can_be_demanded_on_loopback_too(program: Callable[..., Child]) -> None:
    assert program("control-plane", free_port(), HOST=HOST, AUTH="keys").wait(60) == 1
    port = free_port()
    program("control-plane", port, HOST=HOST, AUTH="keys", ADMIN_KEY=KEY.text)
    assert (probe.get_json(serves(port), "/v1/tasks", 5) or (0,))[0] == 401


def test_a_key_that_is_none_is_refused_without_being_shown(program: Callable[..., Child]) -> None:
    child = program("control-plane", HOST="0.0.0.0", ADMIN_KEY="tp_hunter2")
    assert child.wait(60) == 2
    assert "error: TAILPLANE_ADMIN_KEY: that is no API key: one begins with tp_" in child.log_tail()
    assert "hunter2" not in child.log_tail()


@pytest.mark.parametrize("name", COMMANDS)
def test_metrics_that_others_could_read_want_a_token_or_a_word(program: Callable[..., Child], name: str) -> None:
    said = {"METRICS_HOST": "0.0.0.0", "HOST": HOST}
    refused = program(name, free_port(), METRICS_PORT=str(free_port()), **said)
    assert refused.wait(60) not in (0, None)
    assert "error: 0.0.0.0 is reached by others, who could read the metrics" in refused.log_tail()
    assert "hint:  TAILPLANE_METRICS_TOKEN" in refused.log_tail()
    assert "Traceback" not in refused.log_tail()


def test_several_workers_say_so_once(program: Callable[..., Child]) -> None:
    child = program("worker", 0, "--processes", "2", METRICS_HOST="0.0.0.0", METRICS_PORT=str(free_port()))
    assert child.wait(60) == 1
    assert child.log_tail().count("who could read the metrics") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_metrics_are_for_those_who_bring_the_token_and_probes_for_all(program: Callable[..., Child], name: str) -> None:
    port = free_port()
    child = program(name, free_port(), HOST=HOST, METRICS_HOST="0.0.0.0", METRICS_PORT=str(port), METRICS_TOKEN=TOKEN)
    until(lambda: look(port, "/readyz")[0] == 200, "it is ready")
    assert look(port, "/livez")[0] == 200
    assert [look(port, "/metrics", said)[0] for said in (None, "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}")] == [
        401,
        401,
        401,
        200,
    ]
    assert TOKEN not in child.log_tail()


def look(port: int, path: str, authorization: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def test_the_word_none_lets_everybody_look(program: Callable[..., Child]) -> None:
    port = free_port()
    program(
        "control-plane",
        free_port(),
        HOST=HOST,
        METRICS_HOST="0.0.0.0",
        METRICS_PORT=str(port),
        METRICS_TOKEN="none",
    )
    until(lambda: look(port, "/metrics")[0] == 200, "it tells")
