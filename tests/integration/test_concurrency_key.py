"""Of a key's tasks never more than the limit run at once, whatever becomes of the workers, and each of them ends."""

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
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
# So many keep their places until their worker is struck.
VICTIMS = range(0, TASKS, TASKS // 10)
PATIENCE = 120


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    plan = Plan(target=str(WORKFLOWS), workers=4, concurrency=8, env={"TAILPLANE_DRAIN_GRACE": "0.1"})
    with LocalCluster(plan) as running:
        yield running


async def _holder(cluster: LocalCluster, folder: Path, is_over: Callable[[], bool]) -> int | None:
    """Return a worker that holds the key just now, and will until it is struck; None: that was the last one."""
    async with asyncio.timeout(PATIENCE):
        while not is_over():
            pids = {child.pid: index for index, child in enumerate(cluster.workers)}
            holders = [int(place.read_text() or 0) for place in folder.glob("place-*")]
            if found := [pids[pid] for pid in holders if pid in pids]:
                return found[0]
            await asyncio.sleep(0.01)
    return None


async def _strike_all(cluster: LocalCluster, folder: Path, is_over: Callable[[], bool]) -> Counter[signal.Signals]:
    """End one worker that holds the key after the other, and start each again, until all is over."""
    struck = Counter[signal.Signals]()
    for how in itertools.cycle((signal.SIGKILL, signal.SIGTERM)):
        index = await _holder(cluster, folder, is_over)
        if index is None:
            break
        # Whatever waits for its place holds nothing else up: that would wait here for ever.
        async with Client(cluster.url) as client:
            await (await client.run_workflow("free")).result(timeout=PATIENCE)
        worker = cluster.workers[index]
        if how is signal.SIGKILL:
            await asyncio.to_thread(cluster.kill_worker, index)
        else:
            assert worker.pid
            os.kill(worker.pid, how)
        await asyncio.to_thread(cluster.restart_worker, index)
        struck[how] += 1
    return struck


async def test_no_more_than_the_limit_run_while_workers_are_killed_and_all_end(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with Client(cluster.url) as client:

        async def submit(number: int) -> Task:
            value = {"folder": str(tmp_path), "places": PLACES, "seconds": None if number in VICTIMS else 0.002}
            return await client.run_workflow("occupy", value, concurrency_key="one desk", concurrency_limit=PLACES)

        tasks = await asyncio.gather(*map(submit, range(TASKS)))
        results = asyncio.gather(*(task.result() for task in tasks))
        struck = await _strike_all(cluster, tmp_path, results.done)
        async with asyncio.timeout(PATIENCE):
            await results

        assert list(tmp_path.glob("crowded-*")) == []
        # Each strike hits two of them at the most.
        assert struck.total() >= len(VICTIMS) // PLACES
        assert struck[signal.SIGKILL] >= 3
        statuses = [await task.status() for task in tasks]
        assert {status.state for status in statuses} == {State.SUCCEEDED}
        assert min(statuses[number].attempt for number in VICTIMS) > 1, "no worker was hit while it held the key"
        assert {(status.concurrency_key, status.concurrency_limit) for status in statuses} == {("one desk", PLACES)}
        await _assert_nothing_is_left(cluster)


async def test_no_more_of_a_workflow_than_its_bound_run_while_a_worker_is_killed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with Client(cluster.url) as client:

        def value(number: int) -> dict[str, object]:
            return {"folder": str(tmp_path), "seconds": None if number % 10 == 0 else 0.1}

        tasks = await asyncio.gather(*(client.run_workflow("bounded", value(number)) for number in range(30)))
        results = asyncio.gather(*(task.result() for task in tasks))
        struck = await _strike_all(cluster, tmp_path, results.done)
        assert struck[signal.SIGKILL] >= 1
        async with asyncio.timeout(PATIENCE):
            await results
        assert list(tmp_path.glob("crowded-*")) == []
        await _assert_nothing_is_left(cluster)


async def test_no_more_of_a_tenant_than_its_bound_run_while_workers_are_killed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with broker_of(cluster) as broker:
        await broker.tenants.set_limits(TenantRecord("acme", max_running=PLACES))
        value = {"folder": str(tmp_path), "places": PLACES}
        inputs = ({**value, "seconds": None if number % 10 == 0 else 0.1} for number in range(30))
        tasks = await queue_tasks(broker, "acme", "occupy", inputs)
        waiting = asyncio.ensure_future(ended(broker, tasks))
        struck = await _strike_all(cluster, tmp_path, waiting.done)
        assert struck.total() >= 2
        records = await waiting
        assert list(tmp_path.glob("crowded-*")) == []
        assert {record.state for record in records} == {State.SUCCEEDED}
    await _assert_nothing_is_left(cluster)


async def _assert_nothing_is_left(cluster: LocalCluster) -> None:
    async with broker_of(cluster) as broker:
        keys = broker.keys
        async with asyncio.timeout(10):
            while await broker.redis.exists(keys.terms, keys.blocked, keys.holders, keys.limits):
                # The last claim is acknowledged after its task's end.
                await asyncio.sleep(0.01)
