"""Of a key's tasks never more than the limit run at once, whatever becomes of the workers, and each of them ends."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailplane.broker import TenantRecord
from tailplane.client import Client, State, Task
from tailplane.deploy.cluster import LocalCluster, Plan
from tests.integration.tenant_tasks import broker_of, ended, queue_tasks

pytestmark = [pytest.mark.process, pytest.mark.slow]

WORKFLOWS = Path(__file__).with_name("keyed_workflows.py")
PLACES = 2
TASKS = 500
# Some are long: a worker that dies while it runs one holds up the key until its lease has run out.
LONG = 25


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    plan = Plan(target=str(WORKFLOWS), workers=4, concurrency=8, env={"TAILPLANE_DRAIN_GRACE": "0.1"})
    with LocalCluster(plan) as running:
        yield running


async def _strike(cluster: LocalCluster, folder: Path, how: signal.Signals) -> None:
    """End a worker that holds the key just now, and start it again."""
    async with asyncio.timeout(20):
        while True:
            pids = {child.pid: index for index, child in enumerate(cluster.workers)}
            holders = [int(place.read_text() or 0) for place in folder.glob("place-*")]
            found = [pids[pid] for pid in holders if pid in pids]
            if found:
                break
            await asyncio.sleep(0.01)
    worker = cluster.workers[found[0]]
    if how is signal.SIGKILL:
        await asyncio.to_thread(cluster.kill_worker, found[0])
    else:
        assert worker.pid
        os.kill(worker.pid, how)
    await asyncio.to_thread(cluster.restart_worker, found[0])


async def _wait_for(count: int, tasks: list[asyncio.Task[object]]) -> None:
    while sum(task.done() for task in tasks) < count:
        await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)


async def test_no_more_than_the_limit_run_while_workers_are_killed_and_all_end(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with Client(cluster.url) as client:

        async def submit(number: int) -> Task:
            value = {"folder": str(tmp_path), "places": PLACES, "seconds": 0.4 if number % LONG == 0 else 0.002}
            return await client.run_workflow("occupy", value, concurrency_key="one desk", concurrency_limit=PLACES)

        tasks = await asyncio.gather(*map(submit, range(TASKS)))
        results = [asyncio.ensure_future(task.result()) for task in tasks]
        for turn, how in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
            await _wait_for(turn * TASKS // 5, results)
            await _strike(cluster, tmp_path, how)
            # Whatever waits for the key holds nothing else up.
            await (await client.run_workflow("free")).result(timeout=5)
        async with asyncio.timeout(60):
            await asyncio.gather(*results)

        assert list(tmp_path.glob("crowded-*")) == []
        statuses = [await task.status() for task in tasks]
        assert {status.state for status in statuses} == {State.SUCCEEDED}
        assert max(status.attempt for status in statuses) > 1, "no worker was hit while it held the key"
        assert {(status.concurrency_key, status.concurrency_limit) for status in statuses} == {("one desk", PLACES)}
        await _assert_nothing_is_left(cluster)


async def test_no_more_of_a_workflow_than_its_bound_run_while_a_worker_is_killed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with Client(cluster.url) as client:
        value = {"folder": str(tmp_path), "seconds": 0.2}
        tasks = await asyncio.gather(*(client.run_workflow("bounded", value) for _ in range(20)))
        await _strike(cluster, tmp_path, signal.SIGKILL)
        async with asyncio.timeout(60):
            await asyncio.gather(*(task.result() for task in tasks))
        assert list(tmp_path.glob("crowded-*")) == []
        await _assert_nothing_is_left(cluster)


async def test_no_more_of_a_tenant_than_its_bound_run_while_workers_are_killed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with broker_of(cluster) as broker:
        await broker.tenants.set_limits(TenantRecord("acme", max_running=PLACES))
        value = {"folder": str(tmp_path), "places": PLACES}
        tasks = await queue_tasks(broker, "acme", "occupy", ({**value, "seconds": 0.2} for _ in range(30)))
        waiting = asyncio.ensure_future(ended(broker, tasks))
        for how in (signal.SIGKILL, signal.SIGTERM):
            await _strike(cluster, tmp_path, how)
            # Whatever waits for its tenant's bound holds no other one up.
            async with Client(cluster.url) as client:
                await (await client.run_workflow("free")).result(timeout=5)
        records = await waiting
        assert list(tmp_path.glob("crowded-*")) == []
        # One that was struck may not try again.
        assert {record.state for record in records} <= {State.SUCCEEDED, State.FAILED}
        assert sum(record.state is State.SUCCEEDED for record in records) >= len(tasks) - 2 * PLACES
    await _assert_nothing_is_left(cluster)


async def _assert_nothing_is_left(cluster: LocalCluster) -> None:
    async with broker_of(cluster) as broker:
        keys = broker.keys
        async with asyncio.timeout(10):
            while await broker.redis.exists(keys.terms, keys.blocked, keys.holders, keys.limits):
                # The last claim is acknowledged after its task's end.
                await asyncio.sleep(0.01)
