"""What is made of pip-audit's reports; the package index itself is asked by `make audit` only."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]

GUILTY = {
    "name": "jinja2",
    "version": "2.11.2",
    "vulns": [{"id": "PYSEC-2021-66", "aliases": ["CVE-2020-28493"], "fix_versions": ["2.11.3"]}],
}
CLEAN = {"name": "msgpack", "version": "1.2.4", "vulns": []}
UNKNOWN = {"name": "own", "skip_reason": "Dependency not found on PyPI and could not be audited: own (1.0)"}
OURS = {"name": "tailplane", "skip_reason": "distribution marked as editable"}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, which remembers nothing yet."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "MEMORY", tmp_path / "memory.json")
    return module


def answering(
    monkeypatch: pytest.MonkeyPatch, audit: ModuleType, guilty: list[Any], installed: list[Any]
) -> list[tuple[str, ...]]:
    """Let pip-audit report this of the package that is known to be guilty, and of those that are installed."""
    asked: list[tuple[str, ...]] = []

    def ask(*options: str) -> dict[str, Any]:
        asked.append(options)
        is_guilty = any("guilty" in option for option in options)
        return {"dependencies": guilty if is_guilty else installed if "--local" in options else [CLEAN]}

    monkeypatch.setattr(audit, "ask", ask)
    return asked


def test_an_advisory_fails_both_ways_and_says_what_mends_it(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, audit, [GUILTY], [CLEAN, GUILTY, OURS])

    assert audit.main([]) == 1
    assert audit.main(["--tolerant"]) == 1
    assert "jinja2 2.11.2: PYSEC-2021-66; fixed in: 2.11.3" in capsys.readouterr().err


def test_a_clean_bill_is_good_for_a_day(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, audit, [GUILTY], [CLEAN, OURS])

    assert audit.main(["--tolerant"]) == 0
    assert len(asked) == 3
    assert audit.main(["--tolerant"]) == 0
    assert len(asked) == 3
    # Who asks by name is answered anew.
    assert audit.main([]) == 0
    assert len(asked) == 6
    monkeypatch.setattr(audit, "IGNORED", {"PYSEC-2020-1": "a test"})
    assert audit.main(["--tolerant"]) == 0
    assert len(asked) == 9


def test_an_index_without_advisories_audits_nothing_and_is_not_asked_for_more(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    innocent = GUILTY | {"vulns": []}
    asked = answering(monkeypatch, audit, [innocent], [CLEAN])

    assert audit.main([]) == 2
    assert len(asked) == 1
    assert audit.main(["--tolerant"]) == 0
    assert "WARNING: DEPENDENCIES WERE NOT AUDITED" in capsys.readouterr().err


def test_packages_that_the_index_does_not_know_are_named(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, audit, [GUILTY], [CLEAN, UNKNOWN, OURS])

    assert audit.main([]) == 2
    assert "not on the index: own" in capsys.readouterr().err


def test_what_is_ignored_is_no_finding(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "IGNORED", {"CVE-2020-28493": "we do not render templates"})

    assert audit.read({"dependencies": [GUILTY]}).findings == []


def test_the_makefile_runs_it_before_each_commit() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipes = {
        name: makefile.partition(f"\n{name}:")[2].partition("\n\n")[0].splitlines() for name in ("check", "audit")
    }

    assert any(line.endswith("deploy/audit.py --tolerant") for line in recipes["check"])
    assert any(line.endswith("deploy/audit.py") for line in recipes["audit"])
