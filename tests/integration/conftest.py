"""One real cluster for all integration tests: embedded Valkey, a control plane, a worker."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster, Plan

WORKFLOWS = Path(__file__).with_name("workflows.py")


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A cluster that tests share and leave as they found it."""
    with LocalCluster(Plan(target=str(WORKFLOWS), env={"TAILPLANE_KEEP_ALIVE": "1s"})) as running:
        yield running


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[Client]:
    """A client of the shared cluster."""
    async with Client(cluster.url) as client:
        yield client
