import http.server
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tailplane.broker.fitness import Facts
from tailplane.deploy.doctor import Verdict, diagnose
from tailplane.deploy.doctor.control_plane import check_control_plane
from tailplane.deploy.doctor.finding import Finding
from tailplane.deploy.doctor.installation import (
    check_embedded,
    check_extras,
    check_parts,
    check_python,
    installed_version,
    packages_by_extra,
)
from tailplane.deploy.doctor.redis_server import (
    check_redis,
    judge_clock,
    judge_eviction,
    judge_persistence,
    judge_rights,
    judge_server,
    judge_speed,
)
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import free_port
from tests.sentinel_process import SERVICE, SentinelProcess

HEALTHY: dict[str, Any] = {
    "/healthz": {"status": "ok"},
    "/readyz": {"status": "ok"},
    "/openapi.json": {"info": {"version": installed_version()}},
    "/v1/whoami": {"tenant": "default", "scopes": ["admin"]},
    "/v1/workers": {"workers": [{"workflows": ["a", "b"], "running": 1, "concurrency": 10}]},
    "/v1/workflows": {"workflows": [{"name": "a"}, {"name": "b"}]},
}


@contextmanager
def control_plane(answers: dict[str, Any]) -> Iterator[str]:
    """Serve these answers; a path that is not among them gives 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path, {"detail": "Redis does not answer"})).encode()
            self.send_response(200 if self.path in answers else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def verdicts(findings: Iterator[Finding]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings}


def test_this_interpreter_and_installation_are_fine() -> None:
    assert check_python().verdict == Verdict.OK
    assert [finding.verdict for finding in check_parts()] == [Verdict.OK]
    assert check_embedded().verdict == Verdict.OK


def test_an_old_python_is_a_failure() -> None:
    assert check_python((3, 10, 1)).verdict == Verdict.FAILURE


def test_extras_are_read_from_the_packages_own_data() -> None:
    lines = [
        "httpx2>=2",
        "arq<0.29,>=0.28; extra == 'workers'",
        'uvicorn[standard]>=0.35; extra == "control-plane"',
        "uvloop>=0.21; (sys_platform != 'win32') and extra == 'workers'",
        "tailplane[local]; extra == 'all'",
        "pytest; extra == 'dev'",
        "py-spy>=0.4; extra == 'bench'",
    ]
    assert packages_by_extra(lines) == {"workers": ["arq"], "control-plane": ["uvicorn"]}


def test_an_incomplete_extra_says_what_is_missing_and_how_to_get_it() -> None:
    (finding,) = check_extras({"workers": ["pydantic", "no-such-package"]})
    assert finding.verdict == Verdict.WARNING
    assert "no-such-package" in finding.detail
    assert "tailplane[workers]" in (finding.remedy or "")


def test_a_healthy_control_plane_and_fleet() -> None:
    with control_plane(HEALTHY) as url:
        found = verdicts(check_control_plane(url, is_expected=True))
    assert found == {"control plane": Verdict.OK, "access": Verdict.OK, "workers": Verdict.OK, "workflows": Verdict.OK}


def test_a_control_plane_that_is_not_ready_is_a_failure_with_its_reason() -> None:
    with control_plane({"/healthz": {}}) as url:
        (finding,) = check_control_plane(url, is_expected=True)
    assert finding.verdict == Verdict.FAILURE
    assert "Redis does not answer" in finding.detail


def test_a_workflow_without_a_living_worker_is_named() -> None:
    with control_plane(HEALTHY | {"/v1/workers": {"workers": []}}) as url:
        found = list(check_control_plane(url, is_expected=True))
    assert [finding.verdict for finding in found] == [Verdict.OK, Verdict.OK, Verdict.WARNING, Verdict.WARNING]
    assert "a, b" in found[-1].detail


def test_something_else_at_the_address_is_told_from_a_control_plane() -> None:
    with control_plane({}) as url:
        (finding,) = check_control_plane(url, is_expected=True)
    assert "no control plane" in finding.detail


@pytest.mark.parametrize("url", ["http://host:port", "http://[", "http://..", "host"])
def test_what_is_no_url_is_a_finding_too(url: str) -> None:
    (finding,) = check_control_plane(url, is_expected=True)
    assert finding.verdict == Verdict.FAILURE


@pytest.mark.parametrize(("is_expected", "verdict"), [(True, Verdict.FAILURE), (False, Verdict.WARNING)])
def test_an_absent_control_plane_is_a_failure_only_if_one_was_named(is_expected: bool, verdict: Verdict) -> None:
    (finding,) = check_control_plane(f"http://127.0.0.1:{free_port()}", is_expected=is_expected)
    assert finding.verdict == verdict
    assert finding.remedy


@pytest.mark.process
def test_a_real_server_with_an_append_only_file_has_no_faults() -> None:
    with EmbeddedServer(persist=True) as server:
        found = verdicts(check_redis(server.url, is_expected=True))
    assert len(found) == 6
    assert found.pop("redis latency") in (Verdict.OK, Verdict.WARNING)
    assert set(found.values()) == {Verdict.OK}


@pytest.mark.process
def test_a_server_that_may_drop_streams_is_refused() -> None:
    with EmbeddedServer(config={"maxmemory-policy": "allkeys-lru"}) as server:
        found = verdicts(check_redis(server.url, is_expected=True))
    assert found["redis eviction"] == Verdict.FAILURE
    assert found["redis persistence"] == Verdict.WARNING


@pytest.mark.process
def test_a_wrong_password_is_told_without_showing_it() -> None:
    with EmbeddedServer(config={"requirepass": "right"}) as server:
        url = server.url.replace("redis://", "redis://:hunter2@")
        (finding,) = check_redis(url, is_expected=True)
        (missing,) = check_redis(server.url, is_expected=True)
    assert finding.verdict == missing.verdict == Verdict.FAILURE
    assert "hunter2" not in finding.detail
    assert "password" in finding.detail


@pytest.mark.process
def test_a_primary_is_looked_at_through_its_sentinels() -> None:
    with EmbeddedServer(persist=True) as server, SentinelProcess() as sentinel:
        url = f"redis+sentinel://:hunter2@{sentinel.address},127.0.0.1:1/{SERVICE}"
        (unknown,) = check_redis(url.replace(":hunter2@", ""), is_expected=True)
        sentinel.monitor(server.port)
        found = verdicts(check_redis(url.replace(":hunter2@", ""), is_expected=True))
        (wrong,) = check_redis(url, is_expected=True)
    assert (found["redis"], found["redis eviction"]) == (Verdict.OK, Verdict.OK)
    assert f"{sentinel.address} does not know the service, 127.0.0.1:1: ConnectionError" in unknown.detail
    assert wrong.verdict == Verdict.FAILURE
    assert "hunter2" not in wrong.detail


@pytest.mark.process
def test_a_server_that_tells_nothing_of_itself_is_a_warning() -> None:
    with EmbeddedServer(config={"user": ("app", "on", ">pw", "~*", "&*", "+@all", "-info")}) as server:
        found = verdicts(check_redis(server.url.replace("://", "://app:pw@"), is_expected=True))
    assert (found["redis"], found["redis eviction"]) == (Verdict.WARNING, Verdict.WARNING)


def test_without_its_client_redis_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tailplane.deploy.doctor.redis_server", None)
    with control_plane(HEALTHY) as url:
        (finding,) = (each for each in diagnose(url, None) if each.check == "redis")
    assert finding.verdict == Verdict.WARNING
    assert "tailplane[workers]" in (finding.remedy or "")


def test_a_url_that_is_none_is_a_finding_and_no_crash() -> None:
    (finding,) = check_redis("nonsense", is_expected=True)
    assert finding.verdict == Verdict.FAILURE


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"redis_version": "7.2.4", "role": "master"}, Verdict.OK),
        ({"redis_version": "7.0.0"}, Verdict.OK),
        ({"redis_version": "6.2.20"}, Verdict.FAILURE),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.0.1"}, Verdict.OK),
        ({"redis_version": "7.2.4", "role": "slave"}, Verdict.FAILURE),
        ({}, Verdict.FAILURE),
    ],
)
def test_kind_version_and_role_of_the_server(info: dict[str, Any], verdict: Verdict) -> None:
    assert judge_server("redis://h", info).verdict == verdict


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        ("noeviction", Verdict.OK),
        ("volatile-lru", Verdict.FAILURE),
        ("allkeys-lfu", Verdict.FAILURE),
        (None, Verdict.WARNING),
    ],
)
def test_only_noeviction_is_accepted(policy: str | None, verdict: Verdict) -> None:
    info = {} if policy is None else {"maxmemory_policy": policy, "maxmemory": 0}
    assert judge_eviction(info).verdict == verdict


def test_a_full_disk_is_a_failure() -> None:
    found = judge_persistence(Facts({"aof_enabled": 1, "aof_last_write_status": "err"}, ""))
    assert found.verdict == Verdict.FAILURE


@pytest.mark.parametrize(
    ("is_appended", "save", "verdict"),
    [(1, "", Verdict.OK), (0, "", Verdict.WARNING), (0, "3600 1", Verdict.WARNING), (0, None, Verdict.WARNING)],
)
def test_what_a_restart_would_lose_is_told(is_appended: int, save: str | None, verdict: Verdict) -> None:
    assert judge_persistence(Facts({"aof_enabled": is_appended}, save)).verdict == verdict


@pytest.mark.parametrize(
    ("skew", "verdict"), [(0.1, Verdict.OK), (-0.1, Verdict.OK), (2, Verdict.WARNING), (-2, Verdict.WARNING)]
)
def test_clocks_that_differ_are_told(skew: float, verdict: Verdict) -> None:
    assert judge_clock(skew).verdict == verdict


def test_a_slow_server_is_told() -> None:
    assert judge_speed(0.001).verdict == Verdict.OK
    assert judge_speed(0.1).verdict == Verdict.WARNING


def test_beside_a_healthy_control_plane_a_redis_that_nobody_named_is_not_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailplane.deploy.doctor.DEFAULT_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    with control_plane(HEALTHY) as url:
        assert verdicts(diagnose(url, None))["redis"] == Verdict.SKIPPED
        assert verdicts(diagnose(url, f"redis://127.0.0.1:{free_port()}"))["redis"] == Verdict.FAILURE
    assert verdicts(diagnose(url, None))["redis"] == Verdict.WARNING


def test_every_finding_that_is_not_ok_has_a_remedy() -> None:
    for finding in diagnose(f"http://127.0.0.1:{free_port()}", f"redis://127.0.0.1:{free_port()}"):
        assert (finding.remedy is None) == (finding.verdict == Verdict.OK), finding


@pytest.mark.parametrize(
    ("refused", "verdict", "detail"),
    [
        ({"control planes": []}, Verdict.OK, "the user may do what control planes need"),
        ({"control planes": ["XRANGE"], "workers": []}, Verdict.OK, "the user may do what workers need"),
        (
            {"control planes": ["XRANGE", "GET"], "workers": ["BLPOP of a"]},
            Verdict.FAILURE,
            "the user may not do what workers need: BLPOP of a",
        ),
    ],
)
def test_a_user_should_have_the_rights_of_one_program(
    refused: dict[str, list[str]], verdict: Verdict, detail: str
) -> None:
    finding = judge_rights(refused)
    assert (finding.verdict, finding.detail) == (verdict, detail)
    assert bool(finding.remedy) == (verdict is Verdict.FAILURE)
