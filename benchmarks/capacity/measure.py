"""Takes the unit costs, on one control plane, one worker, and two servers: one for the queue, one as a shard.

Each scenario puts one kind of work on them and divides the processor time of each process by it. Where two kinds come
together (an entry and its deliveries), two scenarios differ in one of them. What the driver itself takes does not
count. About two minutes; nothing else should run.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import procfs, redis_info
from benchmarks.capacity.costs import Costs
from benchmarks.limits import CONCURRENCY, raise_open_files
from benchmarks.procfs import CpuMeter
from benchmarks.raw_readers import RawReaders
from benchmarks.system import Emit, RawStream
from benchmarks.systems.tailplane import TailplaneClient
from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster, Plan
from tests.redis_cluster import RedisCluster

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
        api: the control plane's URL.
        urls: of the servers, by role.
    """

    def __init__(self, roles: dict[str, list[int]], client: TailplaneClient, api: str, urls: dict[str, str]) -> None:
        self.roles = roles
        self.api = api
        self.client = client
        self.urls = urls

    async def times(self, work: Callable[[], Awaitable[Any]]) -> Times:
        """Return the microseconds that each process takes for `work`."""
        meter, before = CpuMeter(self.roles), self._server_times()
        await work()
        ours = {role: seconds * 1e6 for role, seconds in meter.seconds().items()}
        return ours | {role: time - before[role] for role, time in self._server_times().items()}

    def _server_times(self) -> Times:
        # By what they say of themselves: the kernel's ticks are too coarse for what an idle one does.
        found = {role: redis_info.info(url, "cpu") for role, url in self.urls.items()}
        return {
            role: (float(said["used_cpu_user"]) + float(said["used_cpu_sys"])) * 1e6 for role, said in found.items()
        }

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
        # A crowd of submits would leave memory behind that the readers then use.
        places = asyncio.Semaphore(AT_ONCE)

        async def submit() -> str:
            async with places:
                return await self.client.submit(emit)

        return list(await asyncio.gather(*(submit() for _ in range(tasks))))

    async def result_of(self, task: str) -> None:
        """Return when the task has ended."""
        async with Client(self.api) as client:
            await client.task(task).result(timeout=60)

    def readers(self, tasks: list[str], each: int, expected: int) -> RawReaders:
        """Return readers of the tasks' streams, as SSE."""
        streams: list[RawStream] = [self.client.streams(task)["SSE"] for task in tasks]
        return RawReaders([stream for stream in streams for _ in range(each)], expected=expected)


@dataclass(frozen=True, slots=True)
class _Quiet:
    """What quiet readers and their tasks take.

    Attributes:
        connection: microseconds of the control plane for each, up to its first event.
        second: what a second with all of them takes of each process.
        reader_bytes, task_bytes: memory of each, in the control plane and in the worker.
    """

    connection: float
    second: Times
    reader_bytes: float
    task_bytes: float


async def measure() -> Costs:
    """Return what each kind of work costs here."""
    raise_open_files()
    # On processes of their own: what takes memory shows where none was used and given back before.
    async with _bench() as bench:
        await _trivial(bench, TRIVIAL // 10)
        quiet = await _quiet(bench)
    async with _bench() as bench:
        await _trivial(bench, TRIVIAL // 10)
        return await _costs(bench, quiet)


async def _costs(bench: Bench, quiet: _Quiet) -> Costs:
    idle = await _idle(bench)
    task, shard_task_bytes = await _tasks(bench)
    unheard, shard_entry_bytes = await _entries(bench, 0)
    few, _ = await _entries(bench, FEW)
    many, _ = await _entries(bench, MANY)
    packed = await _flat_out(bench)
    delivery = (many["control plane"] - few["control plane"]) / (MANY - FEW)
    return Costs(
        control_plane_task=task["control plane"],
        control_plane_entry=max(0.0, few["control plane"] - FEW * delivery),
        control_plane_delivery=delivery,
        control_plane_connection=quiet.connection,
        control_plane_reader_second=max(0.0, (quiet.second["control plane"] - idle["control plane"]) / QUIET),
        control_plane_reader_bytes=quiet.reader_bytes,
        worker_task=task["worker"],
        worker_entry=unheard["worker"],
        worker_event=packed["worker"],
        worker_task_bytes=quiet.task_bytes,
        queue_task=task["queue"],
        # A server does something even alone: the shard, which hardly anybody asks meanwhile, tells how much.
        queue_process_second=max(0.0, idle["queue"] - idle["shard"]) / _PROCESSES,
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


async def _entries(bench: Bench, readers: int) -> tuple[Times, float]:
    """Return what an entry takes with so many readers, and its memory on the shard.

    The tasks begin together, after all readers have connected; what starting and reading them costs is left out.
    """
    delay = 3.0 + STREAMS * readers / 500
    emit = Emit(count=round(RATE * SECONDS), rate=RATE, delay=delay)
    tasks = await bench.emit(STREAMS, emit)
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
    return {role: time / entries for role, time in times.items()}, grown / entries


async def _flat_out(bench: Bench) -> Times:
    """Return what an event takes that travels with many others, without readers."""

    async def work() -> None:
        await bench.result_of(await bench.client.submit(Emit(count=FLAT_OUT)))

    times = await bench.times(work)
    return {role: time / FLAT_OUT for role, time in times.items()}


async def _quiet(bench: Bench) -> _Quiet:
    """Let in a reader for each of very many tasks that are silent after their first event."""
    worker = bench.memory("worker")
    tasks = await bench.emit(QUIET, Emit(count=2, rate=1 / 3600))
    await asyncio.sleep(_SETTLING_S)
    running = bench.memory("worker") - worker
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
    return _Quiet(connecting["control plane"] / QUIET, idle, taken / QUIET, running / QUIET)


@asynccontextmanager
async def _bench() -> AsyncIterator[Bench]:
    with _servers() as (cluster, urls):
        roles = {
            "control plane": [child.pid for child in cluster.control_planes],
            "worker": [child.pid for child in cluster.workers],
        }
        client = TailplaneClient()
        await client.open({"url": cluster.url})
        try:
            yield Bench(roles, client, cluster.url, urls)
        finally:
            await client.close()


@contextmanager
def _servers() -> Iterator[tuple[LocalCluster, dict[str, str]]]:
    folder = Path(tempfile.mkdtemp(prefix="capacity-"))
    try:
        with RedisCluster(1, has_replicas=False, directory=folder / "shards", persist=True) as shards:
            plan = Plan(
                target=_WORKFLOWS,
                concurrency=CONCURRENCY,
                data_dir=folder / "queue",
                cwd=_ROOT,
                env={"TAILPLANE_STREAMS_URL": shards.url},
            )
            with LocalCluster(plan) as cluster:
                yield cluster, {"queue": cluster.redis_url, "shard": shards.nodes[0].url}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
