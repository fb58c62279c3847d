"""docker-compose.yml, as Compose itself reads it: safe as it stands, and patient enough with what drains."""

import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tailplane.control_plane import Settings as ControlPlaneSettings
from tailplane.workers import Settings as WorkerSettings
from tests.compose.cluster import compose_command

ROOT = Path(__file__).parents[3]
RAW = (ROOT / "docker-compose.yml").read_text()
SERVICES = ("redis", "control-plane", "load-balancer", "worker", "prometheus", "grafana")


@cache
def _config(**variables: str) -> dict[str, Any]:
    command = compose_command()
    if command is None:
        if os.environ.get("CI") == "true":
            pytest.fail("neither docker compose nor docker-compose is installed here")
        pytest.skip("neither docker compose nor docker-compose is installed here")
    # Neither an .env nor the variables of who runs the tests: what a user gets without any.
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    with tempfile.NamedTemporaryFile() as empty:
        options = ["--env-file", empty.name, "--profile", "observability"]
        done = subprocess.run(
            [*command, *options, "config"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = yaml.safe_load(done.stdout)
    return config


def _service(name: str) -> dict[str, Any]:
    service: dict[str, Any] = _config()["services"][name]
    return service


def test_the_services_are_these() -> None:
    assert set(_config()["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d[\w.-]*", _service(name)["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_starts_again_and_bounds_its_log(name: str) -> None:
    service = _service(name)
    # Those that are built have theirs in deploy/Dockerfile; see test_images.
    assert "build" in service or service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["mem_limit"]


@pytest.mark.parametrize("name", ["control-plane", "worker", "load-balancer"])
def test_a_program_may_do_little(name: str) -> None:
    service = _service(name)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "build" in service or service["user"].split(":")[0] not in ("", "0", "root")


def test_no_secret_has_a_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|TOKEN|KEY)\w*)(?::?[-?](.*?))?\}", RAW)
    assert secrets
    # The word says that there is none.
    assert {default for _, default in secrets} == {"", "none"}
    assert {name for name, default in secrets if default} == {"TAILPLANE_METRICS_TOKEN"}


def test_signing_in_is_said_by_name_and_the_first_key_goes_to_control_planes_alone() -> None:
    assert _service("control-plane")["environment"]["TAILPLANE_AUTH"] == "none"
    services = _config(TAILPLANE_AUTH="keys", TAILPLANE_ADMIN_KEY="tp_xyzzy")["services"]
    assert services["control-plane"]["environment"]["TAILPLANE_AUTH"] == "keys"
    having = [name for name, service in services.items() if "tp_xyzzy" in str(service)]
    assert having == ["control-plane"]


def test_prometheus_brings_the_token_that_the_programs_demand() -> None:
    for token, said in (({}, "none"), ({"TAILPLANE_METRICS_TOKEN": "xyzzy-xyzzy-xyzzy"}, "xyzzy-xyzzy-xyzzy")):
        services = _config(**token)["services"]
        for name in ("control-plane", "worker"):
            assert services[name]["environment"]["TAILPLANE_METRICS_TOKEN"] == said
        assert services["prometheus"]["environment"]["METRICS_TOKEN"] == said
        assert "xyzzy" not in str(services["prometheus"]["command"])
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    for job in scraped:
        file = job["authorization"]["credentials_file"]
        assert f"> {file}" in str(_service("prometheus")["command"])


def test_the_load_balancer_logs_no_query_and_no_header() -> None:
    text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    (format_,) = re.findall(r'^    log-format "(.*)"$', text, re.MULTILINE)
    settings = re.sub(r"#.*", "", text)
    # %r and %HU have the query, `option httplog` has %r; a token may come in it.
    assert "httplog" not in settings
    assert "capture" not in settings
    assert not {"%r", "%{+Q}r", "%HU", "%HQ", "%hrl", "%hsl"} & set(format_.split())
    assert "%HPO" in format_.split()


def test_without_a_password_redis_is_asked_without_one() -> None:
    assert _service("worker")["environment"]["TAILPLANE_REDIS_URL"] == "redis://:@redis:6379/0"
    assert _service("redis")["environment"]["REDIS_PASSWORD"] in ("", None)


def test_a_password_reaches_redis_and_its_programs_and_no_command_line() -> None:
    services = _config(REDIS_PASSWORD="xyzzy")["services"]
    assert services["redis"]["environment"]["REDIS_PASSWORD"] == "xyzzy"
    for name in ("worker", "control-plane"):
        assert services[name]["environment"]["TAILPLANE_REDIS_URL"] == "redis://:xyzzy@redis:6379/0"
    assert "xyzzy" not in str([services["redis"]["command"], services["redis"]["healthcheck"]])


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_published_is_reached_from_this_machine_only(name: str) -> None:
    for port in _service(name).get("ports", ()):
        host = port["host_ip"] if isinstance(port, dict) else port.split(":")[0]
        assert host == "127.0.0.1"


def test_redis_is_on_a_network_without_a_way_out() -> None:
    assert "ports" not in _service("redis")
    assert list(_service("redis")["networks"]) == ["store"]
    assert _config()["networks"]["store"]["internal"] is True
    # Who is reached from outside does not reach Redis.
    assert "store" not in _service("load-balancer")["networks"]


def test_nothing_is_killed_while_it_drains() -> None:
    worker, control_plane = WorkerSettings(), ControlPlaneSettings()
    most = {"worker": worker.drain_grace + worker.stop_grace, "control-plane": control_plane.drain_grace}
    for name, needs in most.items():
        assert float(_service(name)["stop_grace_period"].removesuffix("s")) >= needs.total_seconds() + 2


def test_the_load_balancer_waits_longer_than_anything_is_silent() -> None:
    from tailplane.control_plane.parameters import LONGEST_WAIT

    text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    timeouts = {side: int(seconds) for side, seconds in re.findall(r"timeout (client|server) (\d+)s", text)}
    assert timeouts.keys() == {"client", "server"}
    silent = max(LONGEST_WAIT, ControlPlaneSettings().keep_alive.total_seconds() * 3)
    assert min(timeouts.values()) > silent + 10
