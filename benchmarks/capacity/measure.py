"""Takes the unit costs, on one control plane, one worker, and two servers: one for the queue, one as a shard.

Each scenario puts one kind of work on them and divides the processor time of each process by it. Where two kinds come
together (an entry and its deliveries), two scenarios differ in one of them. What the driver itself takes does not
count. About two minutes; nothing else should run.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import procfs, redis_info
from benchmarks.capacity.costs import Costs
from benchmarks.limits import CONCURRENCY, raise_open_files
from benchmarks.procfs import CpuMeter
from benchmarks.raw_readers import RawReaders
from benchmarks.system import Emit, RawStream
from benchmarks.systems.tailplane import TailplaneClient
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.embedded import EmbeddedServer

_ROOT = Path(__file__).parents[2]
_WORKFLOWS = "benchmarks.systems.tailplane_workflows"

TRIVIAL, AT_ONCE = 3000, 50
STREAMS, RATE, SECONDS = 100, 20.0, 8.0
FEW, MANY = 1, 10
FLAT_OUT = 400_000
QUIET, IDLE_S = 4000, 15.0
_SETTLING_S = 2.0
# One control plane and one worker.
_PROCESSES = 2

Times = dict[str, float]


class Bench:
    """What the scenarios share.

    Attributes:
        client: connected to the control plane.
        urls: of the servers, by role.
    """

    def __init__(self, roles: dict[str, list[int]], client: TailplaneClient, urls: dict[str, str]) -> None:
        self.roles = roles
        self.client = client
        self.urls = urls

    async def times(self, work: Callable[[], Awaitable[Any]]) -> Times:
        """Return the microseconds that each process takes for `work`."""
        meter = CpuMeter(self.roles)
        await work()
        return {role: seconds * 1e6 for role, seconds in meter.seconds().items()}

    def memory(self, role: str) -> int:
        """Return what the process holds, in bytes; of `shard`, its data."""
        if role == "shard":
            return redis_info.memory_bytes(self.urls[role])
        return procfs.resident_bytes(self.roles[role])

    def connections(self, role: str) -> int:
        """Return how many connections the server has, without the one that asks."""
        return int(redis_info.info(self.urls[role], "clients")["connected_clients"]) - 1

    async def emit(self, tasks: int, emit: Emit) -> list[str]:
        """Start so many tasks and return their ids."""
        return list(await asyncio.gather(*(self.client.submit(emit) for _ in range(tasks))))

    def readers(self, tasks: list[str], each: int, expected: int) -> RawReaders:
        """Return readers of the tasks' streams, as SSE."""
        streams: list[RawStream] = [self.client.streams(task)["SSE"] for task in tasks]
        return RawReaders([stream for stream in streams for _ in range(each)], expected=expected)


async def measure() -> Costs:
    """Return what each kind of work costs here."""
    raise_open_files()
    with _servers() as (cluster, urls):
        roles = {
            "control plane": [child.pid for child in cluster.control_planes],
            "worker": [child.pid for child in cluster.workers],
            "queue": [cluster.server.pid],
            "shard": [int(redis_info.info(urls["shard"], "server")["process_id"])],
        }
        client = TailplaneClient()
        await client.open({"url": cluster.url})
        try:
            bench = Bench(roles, client, urls)
            await _trivial(bench, TRIVIAL // 10)
            return await _costs(bench)
        finally:
            await client.close()


async def _costs(bench: Bench) -> Costs:
    idle = await _idle(bench)
    task, shard_task_bytes = await _tasks(bench)
    unheard, shard_entry_bytes, worker_task_bytes = await _entries(bench, 0)
    few, _, _ = await _entries(bench, FEW)
    many, _, _ = await _entries(bench, MANY)
    packed = await _flat_out(bench)
    connecting, quiet, reader_bytes = await _quiet(bench)
    delivery = (many["control plane"] - few["control plane"]) / (MANY - FEW)
    return Costs(
        control_plane_task=task["control plane"],
        control_plane_entry=max(0.0, few["control plane"] - FEW * delivery),
        control_plane_delivery=delivery,
        control_plane_connection=connecting,
        control_plane_reader_second=max(0.0, (quiet["control plane"] - idle["control plane"]) / QUIET),
        control_plane_reader_bytes=reader_bytes,
        worker_task=task["worker"],
        worker_entry=unheard["worker"],
        worker_event=packed["worker"],
        worker_task_bytes=worker_task_bytes,
        queue_task=task["queue"],
        queue_process_second=idle["queue"] / _PROCESSES,
        queue_connections=bench.connections("queue") / _PROCESSES,
        shard_task=task["shard"],
        shard_entry=unheard["shard"],
        shard_hearing=max(0.0, few["shard"] - unheard["shard"]),
        shard_event=packed["shard"],
        shard_connections=bench.connections("shard") / _PROCESSES,
        shard_task_bytes=shard_task_bytes,
        shard_entry_bytes=shard_entry_bytes,
    )


async def _idle(bench: Bench) -> Times:
    """Return what each process takes in a second in which nothing happens."""
    times = await bench.times(lambda: asyncio.sleep(IDLE_S))
    return {role: time / IDLE_S for role, time in times.items()}


async def _trivial(bench: Bench, count: int) -> None:
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            assert await bench.client.run(number) == number

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())


async def _tasks(bench: Bench) -> tuple[Times, float]:
    """Return what a trivial task takes, and the memory that it leaves on its shard."""
    before = bench.memory("shard")
    times = await bench.times(lambda: _trivial(bench, TRIVIAL))
    kept = bench.memory("shard") - before
    return {role: time / TRIVIAL for role, time in times.items()}, kept / TRIVIAL


async def _entries(bench: Bench, readers: int) -> tuple[Times, float, float]:
    """Return what an entry takes with so many readers, its memory on the shard, and a running task's in the worker.

    The tasks begin together, after all readers have connected; what starting and reading them costs is left out.
    """
    delay = 3.0 + STREAMS * readers / 500
    emit = Emit(count=round(RATE * SECONDS), rate=RATE, delay=delay)
    worker = bench.memory("worker")
    tasks = await bench.emit(STREAMS, emit)
    running = bench.memory("worker") - worker
    reading = bench.readers(tasks, readers, emit.count)
    under_way = asyncio.create_task(reading.run(delay + SECONDS * 4))
    await asyncio.sleep(delay + 1)
    before = bench.memory("shard")
    measured = SECONDS - 3
    times = await bench.times(lambda: asyncio.sleep(measured))
    grown = bench.memory("shard") - before
    await under_way
    if readers and reading.deliveries < STREAMS * readers * emit.count:
        raise RuntimeError(
            f"{reading.deliveries} events came to {STREAMS * readers} readers: too many for this machine"
        )
    await asyncio.sleep(delay + SECONDS * 1.3 - measured if not readers else 1)
    entries = STREAMS * RATE * measured
    return {role: time / entries for role, time in times.items()}, grown / entries, running / STREAMS


async def _flat_out(bench: Bench) -> Times:
    """Return what an event takes that travels with many others, without readers."""

    async def work() -> None:
        task = await bench.client.submit(Emit(count=FLAT_OUT))
        await bench.client.each(task, lambda _: None, after=FLAT_OUT - 1)

    times = await bench.times(work)
    return {role: time / FLAT_OUT for role, time in times.items()}


async def _quiet(bench: Bench) -> tuple[float, Times, float]:
    """Return what letting a reader in takes, what a second with all of them takes, and a reader's memory."""
    tasks = await bench.emit(QUIET, Emit(count=2, rate=1 / 3600))
    await asyncio.sleep(_SETTLING_S)
    before = bench.memory("control plane")
    readers = bench.readers(tasks, 1, 3)

    async def connect() -> None:
        async with asyncio.timeout(120):
            while readers.deliveries < QUIET:  # noqa: ASYNC110 - a thread counts them
                await asyncio.sleep(0.05)

    reading = asyncio.create_task(readers.run(300))
    try:
        connecting = await bench.times(connect)
        await asyncio.sleep(_SETTLING_S)
        taken = bench.memory("control plane") - before
        idle = await _idle(bench)
    finally:
        readers.is_stopped = True
        await reading
    return connecting["control plane"] / QUIET, idle, taken / QUIET


@contextmanager
def _servers() -> Iterator[tuple[LocalCluster, dict[str, str]]]:
    folder = Path(tempfile.mkdtemp(prefix="capacity-"))
    shard = EmbeddedServer(folder / "shard", persist=True)
    shard.start()
    try:
        plan = Plan(
            target=_WORKFLOWS,
            concurrency=CONCURRENCY,
            data_dir=folder / "queue",
            cwd=_ROOT,
            env={"TAILPLANE_STREAMS_URL": shard.url},
        )
        with LocalCluster(plan) as cluster:
            yield cluster, {"queue": cluster.redis_url, "shard": shard.url}
    finally:
        shard.stop()
        shutil.rmtree(folder, ignore_errors=True)
