"""W8: very many readers on quiet streams, with busy ones beside them.

First the busy ones alone; then a task per quiet reader is started, which writes one event and waits, and the quiet
readers connect, as bare sockets. Then what they cost: memory of the control plane, processor time while nothing
happens but keep-alives, and the latencies of the busy ones again.
"""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks import procfs
from benchmarks.crowd import Crowd
from benchmarks.raw_readers import RawReaders
from benchmarks.stand import Figures, Stand
from benchmarks.system import Emit

TITLE = "10,000 readers on quiet streams, 100 busy ones beside them"
FULL: dict[str, Any] = {
    "quiet": 10_000,
    "busy": 100,
    "rate": 10,
    "seconds": 12,
    "idle_s": 10,
    "time_limit": 90,
    "longest_run": 240,
    "runs": 3,
}
QUICK: dict[str, Any] = {"quiet": 200, "busy": 10, "rate": 10, "seconds": 4, "idle_s": 2, "time_limit": 30}
SYSTEMS = frozenset({"tailplane"})

_QUIET = Emit(count=2, rate=1 / 3600)
_SUBMISSIONS = 100
# Files that a process needs beside its readers' sockets.
_OTHER_FILES = 500
_SETTLING_S = 2.0


async def measure(stand: Stand) -> None:
    alone = await _busy(stand)
    stand.cases["busy readers alone"] = alone
    count = min(stand.params["quiet"], resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES)
    if count < stand.params["quiet"]:
        stand.notes.append(f"W8: {count} quiet readers: no more files may be open")
    tasks = await _submit(stand, count)
    async with _quiet_readers(stand, tasks) as memory:
        stand.cases["quiet readers"] = {"readers": count, **memory, **await _idle(stand)}
        beside = await _busy(stand)
    beside["busy_p99_ratio"] = beside["steady_p99_ms"] / alone["steady_p99_ms"]
    stand.cases["busy readers beside the quiet ones"] = beside


async def _busy(stand: Stand) -> Figures:
    crowd = Crowd(stand.client, stand.params["busy"], stand.params["rate"], stand.params["seconds"])
    async with asyncio.timeout(stand.params["time_limit"]):
        await crowd.run()
    if crowd.failed:
        stand.notes.append(f"W8: {crowd.failed} busy clients failed, the first with {crowd.first_failure}")
    return {"events": crowd.events, "lost": crowd.lost, "doubled": crowd.doubled, **crowd.steady_spread()}


async def _submit(stand: Stand, count: int) -> list[str]:
    numbers, tasks = iter(range(count)), []

    async def one_after_the_other() -> None:
        for _ in numbers:
            tasks.append(await stand.client.submit(_QUIET))

    async with asyncio.timeout(stand.params["time_limit"]), asyncio.TaskGroup() as group:
        for _ in range(_SUBMISSIONS):
            group.create_task(one_after_the_other())
    await asyncio.sleep(_SETTLING_S)
    return tasks


@asynccontextmanager
async def _quiet_readers(stand: Stand, tasks: list[str]) -> AsyncIterator[Figures]:
    """Keep a reader connected to each task; yields what that takes of the control plane's memory."""
    pids = stand.started.pids["control plane"]
    before = procfs.resident_bytes(pids)
    streams = [stream for task in tasks for stream in list(stand.client.streams(task).values())[:1]]
    readers = RawReaders(streams, expected=3)
    reading = asyncio.create_task(readers.run(stand.params["time_limit"] * 2))
    try:
        async with asyncio.timeout(stand.params["time_limit"]):
            while readers.deliveries < len(tasks) and not reading.done():  # noqa: ASYNC110 - a thread counts them
                await asyncio.sleep(0.1)
        await asyncio.sleep(_SETTLING_S)
        taken = procfs.resident_bytes(pids) - before
        yield {"kb_per_reader": taken / len(tasks) / 1024, "control_plane_mb_before": before / 2**20}
    finally:
        readers.is_stopped = True
        await reading


async def _idle(stand: Stand) -> Figures:
    meter = stand.meter()
    await asyncio.sleep(stand.params["idle_s"])
    shares = {role: seconds / meter.elapsed() for role, seconds in meter.seconds().items()}
    return {f"idle_cpu_share_{role.replace(' ', '_')}": share for role, share in shares.items()} | {
        "idle_cpu_share": sum(share for role, share in shares.items() if role != "client")
    }
