"""A cluster that the tests of this folder share, and the command line as a process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tailplane.deploy.cluster import LocalCluster

Tailplane = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def flows() -> Path:
    """The file with the tests' workflows."""
    return Path(__file__).parent / "flows.py"


@pytest.fixture(scope="session")
def cluster(flows: Path) -> "Iterator[LocalCluster]":
    """A cluster that no test may harm."""
    from tailplane.deploy.cluster import LocalCluster, Plan

    with LocalCluster(Plan(target=str(flows))) as running:
        yield running


@pytest.fixture
def tailplane(cluster: "LocalCluster", tmp_path: Path) -> Tailplane:
    """Run a command against the cluster, from an empty directory, and return what came of it."""

    def run(*arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "tailplane.deploy", *arguments],
            cwd=tmp_path,
            env=os.environ | {"TAILPLANE_URL": cluster.url, "TAILPLANE_REDIS_URL": cluster.redis_url},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
