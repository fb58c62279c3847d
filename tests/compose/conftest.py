"""The cluster that these tests share: built, started, and always taken down with its data.

They are left out of `pytest` without arguments, for they need Docker and minutes: `make test-compose` runs them.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailplane.deploy.ports import free_port
from tests.compose.cluster import WORKERS, Cluster, compose_command


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with three workers."""
    command = compose_command()
    assert command, "these tests need docker compose or docker-compose"
    with tempfile.TemporaryDirectory(prefix="tailplane-compose-") as name:
        directory = Path(name)
        running = Cluster(command, f"tailplane-test-{os.getpid()}", free_port(), directory)
        # Containers write as another user.
        directory.chmod(0o755)
        running.ledger.touch()
        running.ledger.chmod(0o666)
        try:
            running.compose("up", "-d", "--build", "--scale", f"worker={WORKERS}")
            running.wait_until_healthy()
            yield running
        finally:
            running.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
