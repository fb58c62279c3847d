"""A real server for the modules that use Redis; each test has its own key prefix."""

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from tailplane.broker import Broker
from tailplane.control_plane.queue import TaskQueue, open_queue
from tailplane.deploy.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def queue(valkey: EmbeddedServer) -> AsyncIterator[TaskQueue]:
    async with open_queue(valkey.url, f"test-{uuid.uuid4().hex}") as queue:
        yield queue


@pytest.fixture
def broker(queue: TaskQueue) -> Broker:
    hour = timedelta(hours=1)
    return Broker.over(queue, prefix=queue.tasks.keys.prefix, retention=hour, start_within=hour)
