"""A server whose memory is full takes nothing new; what is there goes on."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, WorkerRecord, connect
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import new_worker_id

from .conftest import LEASE, new_task

MEGABYTE = 1024 * 1024


@pytest.fixture
async def client(own: EmbeddedServer) -> AsyncIterator[Redis]:
    client = connect(own.url, Redis)
    yield client
    await client.config_set("maxmemory", 0)
    await client.aclose(close_connection_pool=True)


@pytest.fixture
def broker(client: Redis, prefix: str) -> Broker:
    return Broker.over(client, prefix=prefix, retention=timedelta(hours=1), start_within=timedelta(hours=1))


async def fill(client: Redis) -> None:
    await client.set("ballast", b"x" * 32 * MEGABYTE)
    await client.config_set("maxmemory", 16 * MEGABYTE)


async def test_it_takes_no_new_task_and_says_why(client: Redis, broker: Broker) -> None:
    await fill(client)
    with pytest.raises(StoreUnavailable, match="its memory is full"):
        await broker.tasks.create(new_task())


async def test_leases_are_renewed_all_the_same(client: Redis, broker: Broker) -> None:
    # Else they would be stale when there is room again, and whoever reaps first would take tasks from the living.
    worker = WorkerRecord(new_worker_id(), "host", 1, "1", [], 1, 0)
    await broker.queue.register(worker, [], timedelta(milliseconds=1))
    await fill(client)
    assert await broker.queue.renew(worker.worker_id, LEASE) == 0
    assert await broker.queue.lapsed() == []
