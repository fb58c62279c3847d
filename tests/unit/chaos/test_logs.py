"""What breaks in a process of a chaos run is found in its log."""

import json
from pathlib import Path

import pytest

from tests.chaos.logs import violations

FINE = [
    {"event": "worker ready", "level": "info"},
    {"event": "Redis is away", "level": "warning"},
    {"event": "lease lost", "level": "error"},
]


def _log(directory: Path, *lines: str) -> Path:
    log = directory / "worker-1.log"
    log.write_text("\n".join([*map(json.dumps, FINE), *lines]) + "\n")
    return log


def test_what_faults_make_a_process_say_is_no_violation(tmp_path: Path) -> None:
    assert violations([_log(tmp_path)]) == []


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"event": "a round failed", "level": "error"}),
        json.dumps({"event": "a task's attempt broke off", "level": "warning", "exception": "Traceback ..."}),
        "Traceback (most recent call last):",
    ],
)
def test_what_broke_is_noticed_once(tmp_path: Path, line: str) -> None:
    (found,) = violations([_log(tmp_path, line, line)])
    assert found.seen == line
