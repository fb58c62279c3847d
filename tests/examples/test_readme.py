"""The table of the examples: it lists all of them, and its commands are those that the files give."""

import re
import shlex
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ROWS = [line for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("| [")]
# Those of an image are tried where images are: by `make test-compose`.
COMMANDS = [
    command
    for row in ROWS
    for command in re.findall(r"`([^`]+)`", row.split("|")[3])
    if not command.startswith("docker ")
]


def test_each_example_has_a_row() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}

    assert {re.findall(r"\]\((.+?)\)", row)[0] for row in ROWS} == folders


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_what_is_there_and_stands_in_its_docstring(command: str) -> None:
    (place,) = (word for word in shlex.split(command) if word.startswith(("examples/", "tailplane.")))
    if place.startswith("tailplane."):
        path = EXAMPLES.parent / "deploy" / f"{place.replace('.', '/')}.py"
        docstrings = [(EXAMPLES / "document_analysis/client.py").read_text()]
    else:
        path = EXAMPLES.parent / place
        docstrings = [each.read_text() for each in ([path] if path.is_file() else path.glob("test_*.py"))]

    assert path.exists()
    assert any(command in docstring.split('"""')[1] for docstring in docstrings)
