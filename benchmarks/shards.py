"""What it costs to append over shards instead of over one server: `python -m benchmarks.shards`.

Tasks of one worker process, each with an entry of 240 bytes in flight at the most, as the writer has them: fifty to a
round trip on one server; on a cluster a round trip for each shard by itself. All in one run, several times in turn, so
that a machine that grows slow meanwhile makes all of them slow.
"""

import asyncio
import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import uvloop
from redis.asyncio import Redis

from tailplane.broker import Append, Broker, NewTask, TaskRef, connect, connect_cluster
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tests.redis_cluster import RedisCluster

TASKS = 50
ROUNDS = 5
SECONDS = 1.5
_DAY = timedelta(days=1)
_PAYLOAD = join_events([pack_event("x" * 240)])


@contextlib.contextmanager
def stores() -> Iterator[dict[str, tuple[str, str | None, list[EmbeddedServer]]]]:
    """Yield by name: the URL of the queue, of the streams, and the servers that have the streams."""
    with (
        EmbeddedServer() as one,
        RedisCluster(1, has_replicas=False) as single,
        RedisCluster(3, has_replicas=False) as three,
    ):
        yield {
            "one server": (one.url, None, [one]),
            "a cluster of one": (one.url, single.url, single.nodes),
            "a cluster of three": (one.url, three.url, three.nodes),
        }


@contextlib.asynccontextmanager
async def broker(url: str, streams: str | None) -> AsyncIterator[Broker]:
    client, shards = connect(url, Redis), connect_cluster(streams) if streams else None
    try:
        yield Broker.over(client, prefix="bench", retention=_DAY, start_within=_DAY, shards=shards)
    finally:
        if shards:
            await shards.aclose()
        await client.aclose(close_connection_pool=True)


async def measure(store: Broker, servers: list[EmbeddedServer]) -> dict[str, float]:
    """Append for some seconds as fast as replies come, then one entry at a time."""
    worker = new_worker_id()
    lanes: dict[Any, list[Append]] = defaultdict(list)
    for _ in range(TASKS):
        task = TaskRef(new_task_id())
        await store.tasks.create(NewTask(task, "bench", "1", b"\xc0"))
        begun = await store.tasks.begin(task, worker, "host")
        entry = Append(task, EntryId(1, begun.seq + 1), _PAYLOAD, begun.entries, worker)
        lanes[store.log.shard(task)].append(entry)
    count = 0

    async def fill(lane: list[Append], until: float) -> None:
        nonlocal count
        while time.perf_counter() < until:
            assert not any(await store.log.append(lane))
            count += len(lane)
            lane[:] = [_next(entry) for entry in lane]

    began, cpu, others = time.perf_counter(), time.process_time(), await _server_cpu(servers)
    await asyncio.gather(*(fill(lane, began + SECONDS) for lane in lanes.values()))
    took, cpu, others = time.perf_counter() - began, time.process_time() - cpu, await _server_cpu(servers) - others
    delays = []
    entry = next(iter(lanes.values()))[0]
    for _ in range(300):
        at = time.perf_counter()
        assert await store.log.append([entry]) == [None]
        delays.append(time.perf_counter() - at)
        entry = _next(entry)
    return {
        "appends/s": count / took,
        "us of the worker's time": cpu / count * 1e6,
        "us of the servers' time": others / count * 1e6,
        "ms for one alone, p50": statistics.median(delays) * 1000,
    }


def _next(entry: Append) -> Append:
    return entry._replace(id=EntryId(1, entry.id.seq + 1), entries=entry.entries + 1)


async def _server_cpu(servers: list[EmbeddedServer]) -> float:
    total = 0.0
    for server in servers:
        async with Redis.from_url(server.url) as client:
            used = await client.info("cpu")
            total += float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
    return total


async def main() -> None:
    with stores() as places:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in places}
        for _ in range(ROUNDS):
            for name, (url, streams, servers) in places.items():
                async with broker(url, streams) as store:
                    found[name].append(await measure(store, servers))
    for figure in found["one server"][0]:
        medians = {name: statistics.median(each[figure] for each in rounds) for name, rounds in found.items()}
        print(f"{figure:26}", *(f"{name} {median:10,.2f}" for name, median in medians.items()), sep="   ")


if __name__ == "__main__":
    uvloop.run(main())
