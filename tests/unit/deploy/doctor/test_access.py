"""What the doctor says of who may come in."""

import time
from typing import Any

import pytest

from tailplane.deploy import probe
from tailplane.deploy.doctor import access
from tailplane.deploy.doctor.access import check_access
from tailplane.deploy.doctor.control_plane import check_control_plane
from tailplane.deploy.doctor.finding import Finding, Verdict
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id

from .test_doctor import HEALTHY, control_plane

KEY = ApiKey.draw(new_key_id())
HERE, THERE = "http://127.0.0.1:8420", "http://tailplane.example:8420"
SAID = {"tenant": "acme", "key_id": KEY.key_id, "name": "app", "scopes": ["read"]}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what is found where the control plane answers so."""

    def look(status: int, said: Any, url: str = HERE, key: str | None = KEY.text) -> list[Finding]:
        monkeypatch.setattr(access.probe, "get_json", lambda *_: (status, said) if status else None)
        findings = list(check_access(url, key))
        assert all(KEY.secret not in repr(finding) for finding in findings)
        return findings

    return look


def test_a_good_key(found: Any) -> None:
    (finding,) = found(200, SAID)
    assert (finding.verdict, finding.detail) == (Verdict.OK, f"{KEY.key_id} of the tenant acme: read")
    assert [each.verdict for each in found(200, SAID | {"expires_at": time.time() + 30 * 86400})] == [Verdict.OK]


def test_a_key_that_is_about_to_expire(found: Any) -> None:
    (finding,) = found(200, SAID | {"expires_at": time.time() + 86400})
    assert finding.verdict == Verdict.WARNING
    assert "expires in" in finding.detail


def test_a_key_that_goes_in_plain_text(found: Any) -> None:
    warning, _ = found(200, SAID, THERE)
    assert (warning.verdict, "in plain text" in warning.detail) == (Verdict.WARNING, True)
    assert len(found(200, SAID, THERE.replace("http", "https"))) == 1


def test_where_nobody_signs_in(found: Any) -> None:
    open_to_all = {"tenant": "default", "scopes": []}
    assert [each.verdict for each in found(200, open_to_all, HERE, None)] == [Verdict.OK]
    (finding,) = found(200, open_to_all, THERE, None)
    assert (finding.verdict, "may do everything" in finding.detail) == (Verdict.WARNING, True)


def test_a_key_that_is_missing_or_not_good(found: Any) -> None:
    (missing,) = found(401, {"detail": "the request has no credential"}, HERE, None)
    assert (missing.verdict, "set TAILPLANE_API_KEY" in (missing.remedy or "")) == (Verdict.FAILURE, True)
    (revoked,) = found(401, {"detail": "the API key was revoked"})
    assert (revoked.verdict, "the API key was revoked" in revoked.detail) == (Verdict.FAILURE, True)


@pytest.mark.parametrize(("status", "verdict"), [(0, Verdict.FAILURE), (503, Verdict.FAILURE), (404, Verdict.WARNING)])
def test_what_can_not_be_found_out_is_a_finding_too(found: Any, status: int, verdict: Verdict) -> None:
    assert [each.verdict for each in found(status, None)] == [verdict]


def test_a_fleet_that_may_not_be_looked_at_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = probe.get_json

    def refuse(url: str, path: str, timeout: float = 1.0, api_key: str | None = None) -> Any:
        return (403, {}) if path == "/v1/workers" else asked(url, path, timeout, api_key)

    monkeypatch.setattr(probe, "get_json", refuse)
    with control_plane(HEALTHY) as url:
        found = {finding.check: finding.verdict for finding in check_control_plane(url, is_expected=True)}
    assert found["workers"] == Verdict.SKIPPED
    assert "workflows" not in found
