"""Limits of a tenant where several real control planes, workers and clients are: they hold over all of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, TenantRecord, connect
from tailplane.client import Client, ClientOptions, Event, QuotaExceeded, RateLimited, ReconnectPolicy, TooManyReaders
from tailplane.deploy.cluster import LocalCluster, Plan

from .conftest import WORKFLOWS

pytestmark = pytest.mark.process

HASTY = ClientOptions(retry_for=timedelta(0), reconnect=ReconnectPolicy(give_up_after=timedelta(milliseconds=1)))
# Seconds, on a busy machine.
DEADLINE = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target=str(WORKFLOWS), control_planes=2)) as running:
        yield running


@pytest.fixture
async def broker(cluster: LocalCluster) -> AsyncIterator[Broker]:
    redis = connect(cluster.redis_url, Redis)
    day = timedelta(hours=24)
    yield Broker.over(redis, prefix="tailplane", retention=day, start_within=day)
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
async def clients(cluster: LocalCluster) -> AsyncIterator[list[Client]]:
    """One that does not wait, for each control plane."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Client(url, options=HASTY)) for url in cluster.urls]


async def limit(broker: Broker, clients: list[Client], **limits: float) -> None:
    """Set limits, and return when both control planes know."""
    wanted = await broker.tenants.set_limits(TenantRecord("default", **limits))  # type: ignore[arg-type]
    async with asyncio.timeout(DEADLINE):
        for client in clients:
            while True:
                found = await client.limits()
                told = (found.submits_per_second, found.max_readers, found.max_stored_bytes)
                if told == (wanted.submits_per_second, wanted.max_readers, wanted.max_stored_bytes):
                    break
                await asyncio.sleep(0.05)


async def test_submits_by_two_control_planes_are_one_rate(broker: Broker, clients: list[Client]) -> None:
    await limit(broker, clients, submits_per_second=20)
    now_ms = broker.queue.now_ms
    taken, refused = 0, list[RateLimited]()

    async def submit(client: Client) -> None:
        nonlocal taken
        while not refused:
            try:
                await client.run_workflow("echo", 1)
                taken += 1
            except RateLimited as error:
                refused.append(error)

    began = emptied = await now_ms()
    # Each time until one is refused. By the server's clock, the bounds hold however long anybody takes to ask.
    for pause in (0, 0.5, 1.5):
        await asyncio.sleep(pause)
        before, asked = taken, await now_ms()
        refused.clear()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(submit(client) for client in clients for _ in range(3)))
        assert {(error.limit, error.of) for error in refused} == {(20, "tenant")}
        # What came anew since one was refused, up to a second's worth; the clock's ms are whole.
        if pause:
            assert taken - before > min(20, 20 * (asked - emptied - 1) / 1000) - 1 - 1e-3
        emptied = await now_ms()
        # Those of one second at once, and then as many as come anew.
        assert taken <= 20 + 20 * (emptied + 1 - began) / 1000 + 1e-3


async def test_a_client_waits_by_itself_until_it_may(
    cluster: LocalCluster, broker: Broker, clients: list[Client]
) -> None:
    await limit(broker, clients, submits_per_second=5)
    began = time.monotonic()
    async with Client(cluster.url, options=ClientOptions(retry_for=timedelta(seconds=DEADLINE))) as patient:
        tasks = [await patient.run_workflow("echo", n) for n in range(12)]
        took = time.monotonic() - began
        assert [await task.result(timeout=DEADLINE) for task in tasks] == list(range(12))
    assert took >= (12 - 5) / 5 - 0.1


async def test_bytes_that_workers_write_count(broker: Broker, clients: list[Client]) -> None:
    before = (await clients[0].limits()).stored_bytes
    await limit(broker, clients, max_stored_bytes=before + 100_000)
    task = await clients[0].run_workflow("count", {"n": 10_000})
    await task.result(timeout=DEADLINE)

    # Workers tell, and control planes look, once a second.
    async with asyncio.timeout(DEADLINE):
        for client in clients:
            while (await client.limits()).stored_bytes < before + 100_000:
                await asyncio.sleep(0.1)
    for client in clients:
        with pytest.raises(QuotaExceeded) as caught:
            await client.run_workflow("echo", 1)
        assert caught.value.stored >= caught.value.limit == before + 100_000
        assert caught.value.retry_after > 3600
    # What runs is not asked, and what was written can be read.
    assert await task.result(timeout=DEADLINE) is not None
    await limit(broker, clients)


@pytest.mark.slow
async def test_readers_of_a_control_plane_that_stops_find_room_at_the_other(
    cluster: LocalCluster, broker: Broker, clients: list[Client]
) -> None:
    await limit(broker, clients, max_readers=4)
    first, second = clients
    task = await first.run_workflow("tick", 60)

    async def next_of(client: Client) -> tuple[AsyncIterator[Event], Event]:
        stream = aiter(client.task(task.task_id).events())
        return stream, await anext(stream)

    opened = [await next_of(first) for _ in range(4)]
    # Both know of the four.
    async with asyncio.timeout(DEADLINE):
        while (await second.limits()).readers < 4:
            await asyncio.sleep(0.1)
    with pytest.raises(TooManyReaders):
        await next_of(second)

    child = cluster.control_planes[0]
    child.terminate()
    await asyncio.to_thread(child.wait, DEADLINE)
    began = time.monotonic()
    async with Client(cluster.urls[1]) as patient:
        moved = await asyncio.gather(*(next_of(patient) for _ in range(4)))
    assert time.monotonic() - began < 10
    assert len(moved) == len(opened)
    await asyncio.to_thread(cluster.restart_control_plane)
    await limit(broker, clients)
    await task.cancel()
