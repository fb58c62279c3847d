"""What breaks on the way costs no event and doubles none."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from redis.asyncio import Redis

from tailplane.broker import Broker, NewTask, TaskRef, connect
from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol import codec
from tailplane.protocol.ids import new_task_id
from tests.proxy import Proxy, serving

from .conftest import WORKFLOWS

EVENTS = 2_000
CUTS = 20


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_twenty_cut_connections_lose_and_double_nothing(cluster: LocalCluster) -> None:
    async with serving(Proxy(_port(cluster.url))) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        task = await client.run_workflow("count", {"n": EVENTS, "pause": 0.001})
        seen: list[object] = []
        async for event in client.get_task_result_stream(task.task_id):
            seen.append(event)
            if len(seen) % (EVENTS // (CUTS + 1)) == 0 and proxy.cuts < CUTS:
                proxy.cut()
        assert proxy.cuts == CUTS
    assert seen == list(range(EVENTS))


@contextlib.asynccontextmanager
async def _own_cluster(**options: object) -> AsyncIterator[LocalCluster]:
    running = await asyncio.to_thread(LocalCluster(Plan(target=str(WORKFLOWS), **options)).start)  # type: ignore[arg-type]
    try:
        yield running
    finally:
        await asyncio.to_thread(running.stop)


async def test_a_killed_control_plane_loses_and_doubles_nothing() -> None:
    async with _own_cluster() as cluster, Client(cluster.url) as client:
        task = await client.run_workflow("count", {"n": EVENTS, "pause": 0.001})
        seen: list[object] = []
        async for event in client.get_task_result_stream(task.task_id):
            seen.append(event)
            if len(seen) in (300, 900):
                await asyncio.to_thread(cluster.kill_control_plane)
                await asyncio.to_thread(cluster.restart_control_plane)
    assert seen == list(range(EVENTS))


async def test_a_killed_worker_s_task_is_taken_over() -> None:
    async with _own_cluster(workers=2) as cluster, Client(cluster.url) as client:
        task = await client.run_workflow("tick", 0.05)
        events = task.events()
        async for event in events:
            if event.data == 3:
                break
        status = await task.status()
        pids = {worker.worker_id: worker.pid for worker in await client.workers()}
        index = [child.pid for child in cluster.workers].index(pids[status.worker_id])
        cluster.kill_worker(index)
        types = []
        async for event in events:
            if event.kind == "platform":
                types.append((event.type, event.attempt))
            elif event.attempt == 2:
                break
        assert types == [("task.worker_lost", 1), ("task.rewind", 2), ("task.started", 2)]
        assert event.data == 0
        assert (await task.status()).worker_id != status.worker_id
        await task.cancel()


async def test_a_draining_worker_hands_its_task_to_another() -> None:
    async with _own_cluster(workers=2, env={"TAILPLANE_DRAIN_GRACE": "0.1"}) as cluster, Client(cluster.url) as client:
        task = await client.run_workflow("tick", 0.05)
        events = task.events()
        async for event in events:
            if event.data == 3:
                break
        status = await task.status()
        pids = {worker.worker_id: worker.pid for worker in await client.workers()}
        index = [child.pid for child in cluster.workers].index(pids[status.worker_id])
        await asyncio.to_thread(cluster.workers[index].stop, 10.0)
        types = []
        async for event in events:
            if event.kind == "platform":
                types.append((event.type, event.attempt))
            elif event.attempt == 2:
                break
        assert types == [("task.handed_back", 1), ("task.rewind", 2), ("task.started", 2)]
        await task.cancel()


async def test_a_restarted_store_costs_no_event(tmp_path) -> None:
    async with _own_cluster(data_dir=tmp_path) as cluster, Client(cluster.url) as client:
        task = await client.run_workflow("count", {"n": EVENTS, "pause": 0.002})
        seen: list[object] = []
        async for event in client.get_task_result_stream(task.task_id):
            seen.append(event)
            if len(seen) == 500:
                # SIGTERM: Valkey writes its append-only file out before it ends.
                await asyncio.to_thread(cluster.server.stop)
                # Longer than a lease: no worker may lose its task for that.
                await asyncio.sleep(5)
                await asyncio.to_thread(cluster.server.start)
        assert seen == list(range(EVENTS))
        assert (await task.status()).attempt == 1


async def test_a_lost_doorbell_delays_a_task_but_does_not_lose_it(cluster: LocalCluster, client: Client) -> None:
    redis = connect(cluster.redis_url, Redis)
    broker = Broker.over(redis, prefix="tailplane", retention=timedelta(hours=1), start_within=timedelta(hours=1))
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "count", "1", codec.pack({"n": 1})))
    # As `enqueue` does, without the doorbell.
    await redis.zadd(broker.keys.due("count"), {task.member: time.time() * 1000})
    assert await client.task(task.task_id).result(timeout=30) == 1
    await redis.aclose()
