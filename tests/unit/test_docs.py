"""What the documents promise of the source is so."""

import re
from pathlib import Path

import pytest

from tailplane.protocol import errors, states

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "PROTOCOL.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_state_diagram_is_the_table_s() -> None:
    assert f"```mermaid\n{states.diagram()}\n```" in ARCHITECTURE


def test_the_architecture_stays_a_map() -> None:
    assert len(ARCHITECTURE.splitlines()) <= 150


def test_every_must_has_a_row_that_names_its_test() -> None:
    _, _, rules = PROTOCOL.partition("## 2.")
    text, _, table = rules.partition("## 5.")
    musts = len(re.findall(r"\bMUST\b", text))
    rows = re.findall(r"^\| (?!statement|---).* \| `tests/[\w/]+\.py::\w+` \|$", table, re.MULTILINE)
    assert len(rows) == musts


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PROTOCOL + SECURITY))))
def test_a_test_that_the_documents_name_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"^\s*(async )?def {name}\b", (ROOT / path).read_text(), re.MULTILINE), test


def test_every_code_that_the_protocol_names_exists() -> None:
    named = set(re.findall(r"\b(?:404|406|409|410|413|416|422|429|503) `(\w+)`", PROTOCOL))
    assert named
    assert named <= errors.BY_CODE.keys()


def test_every_file_that_the_documents_link_to_exists() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_every_module_that_the_architecture_names_exists() -> None:
    names = re.findall(r"`(control_plane|workers|broker|client|protocol)/(\w+\.py)`", ARCHITECTURE)
    assert names
    for part, module in names:
        assert (ROOT / part / "tailplane" / part / module).exists(), f"{part}/{module}"
