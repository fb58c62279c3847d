"""The document of all settings is what the source says."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tailplane.broker.settings import DeploymentSettings
from tailplane.control_plane import Settings as ControlPlaneSettings
from tailplane.deploy import configuration
from tailplane.deploy.cli.app import run
from tailplane.workers import Settings as WorkerSettings

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()
PARTS = ("protocol", "broker", "control_plane", "workers", "client", "deploy")


def test_the_document_is_up_to_date() -> None:
    assert configuration.render() == DOCUMENT, "run `make docs`"


@pytest.mark.parametrize("kind", [ControlPlaneSettings, WorkerSettings], ids=["control-plane", "worker"])
def test_each_setting_is_in_it(kind: type[DeploymentSettings]) -> None:
    assert {f"TAILPLANE_{name.upper()}" for name in kind.model_fields} <= set(re.findall(r"TAILPLANE_\w+", DOCUMENT))


def test_each_variable_that_the_source_reads_is_in_it() -> None:
    sources = [path.read_text() for part in PARTS for path in (ROOT / part).rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"TAILPLANE_[A-Z_]*[A-Z]", text)}

    assert named - set(re.findall(r"TAILPLANE_\w+", DOCUMENT)) == set()


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(days=7), "`7d`"),
        (timedelta(days=1), "`24h`"),
        (timedelta(minutes=5), "`5m`"),
        (timedelta(seconds=90), "`90s`"),
        (timedelta(milliseconds=1500), "`1500ms`"),
    ],
)
def test_a_duration_is_written_as_it_may_be_set(duration: timedelta, words: str) -> None:
    assert configuration._duration_words(duration) == words
    assert WorkerSettings(retention=words.strip("`")).retention == duration  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["control-plane", "worker"])
def test_the_programs_say_where_it_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "docs/configuration.md" in capsys.readouterr().out
