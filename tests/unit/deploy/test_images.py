"""What the container images are made of fits what the distribution asks for."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = ("control-plane", "workers")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    lines = (ROOT / "deploy/constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def _wanted() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    # Each once: the programs have many in common.
    return [
        Requirement(line) for line in dict.fromkeys([*lines, *(line for extra in EXTRAS for line in extras[extra])])
    ]


@pytest.mark.parametrize("requirement", _wanted(), ids=str)
def test_the_images_versions_are_those_that_the_project_takes(
    requirement: Requirement, constraints: dict[str, str]
) -> None:
    assert requirement.specifier.contains(constraints[canonicalize_name(requirement.name)])


def test_what_the_packages_bring_with_them_is_pinned_too(constraints: dict[str, str]) -> None:
    """By what is installed here. Where that is newer, and brings more, `make constraints` is due."""
    brought = {name for requirement in _wanted() for name in _closure(requirement)}
    assert brought - constraints.keys() == set()
    assert len(brought) > len(_wanted()) / 2


def _closure(requirement: Requirement, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    name = canonicalize_name(requirement.name)
    if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
        return
    yield name
    for line in importlib.metadata.requires(name) or ():
        needed = Requirement(line)
        extras = requirement.extras or {""}
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            needed.marker = None
            yield from _closure(needed, seen | {name})


def test_no_image_runs_as_root_or_without_a_health_check() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    finals = {stage.splitlines()[0].split(" AS ")[1]: stage for stage in stages if "ENTRYPOINT" in stage}
    assert finals.keys() == {"control-plane", "worker"}
    for stage in finals.values():
        assert "\nUSER 10001:10001\n" in stage
        assert "\nHEALTHCHECK " in stage
        # As a list: a shell before the program would keep SIGTERM to itself.
        assert re.search(r'^ENTRYPOINT \["tailplane", ', stage, re.MULTILINE)


def test_the_dockerfile_is_understood_by_dockers_older_builder() -> None:
    assert not re.search(r"^RUN --|^COPY --link|<<", DOCKERFILE, re.MULTILINE)
