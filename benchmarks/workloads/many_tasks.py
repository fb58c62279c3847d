"""W4: many tasks at once, each with a reader of its own: latencies, what an event costs over all processes, memory.

The workflows write in a closed loop, with a sleep between two events, so that an overloaded system writes less than
asked: the rate that it reached is noted. Figures called `steady` are of a window that begins a second after the last
reader had its first event, ends with the first task, and leaves out submitting and connecting; the others are of the
whole. First the same with events of the size of a token, for what Redis keeps of each.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks import procfs, redis_info
from benchmarks.crowd import Crowd
from benchmarks.stand import Stand
from benchmarks.system import PAD

TITLE = "many tasks at once, each with a reader: 20 events/s for 10 s"
FULL: dict[str, Any] = {
    "tasks": [200, 1000],
    "token_tasks": 200,
    "rate": 20,
    "seconds": 10,
    "time_limit": 60,
    "longest_run": 240,
}
QUICK: dict[str, Any] = {"tasks": [20], "token_tasks": 20, "rate": 20, "seconds": 4, "time_limit": 30}
SYSTEMS = None

# Characters of padding: an event of about 45 bytes, a word or two with what says where it belongs.
_TOKEN_PAD = 8


async def measure(stand: Stand) -> None:
    params = stand.params
    if tasks := params["token_tasks"]:
        stand.cases[f"{tasks} tasks, tokens"] = await run_crowd(
            stand, tasks, params["rate"], params["seconds"], params["time_limit"], _TOKEN_PAD
        )
    for tasks in params["tasks"]:
        stand.cases[f"{tasks} tasks"] = await run_crowd(
            stand, tasks, params["rate"], params["seconds"], params["time_limit"]
        )


async def run_crowd(
    stand: Stand, tasks: int, rate: float, seconds: float, time_limit: float, pad: int = PAD
) -> dict[str, float]:
    """Run so many tasks with their readers; return the figures."""
    crowd = Crowd(stand.client, tasks, rate, seconds, pad)
    memory = _redis_memory(stand)
    meter, begun = stand.meter(), time.monotonic()
    running = asyncio.create_task(crowd.run())
    steady = await _watch(stand, crowd, running, begun + time_limit)
    cpu, whole_s = meter.seconds(), time.monotonic() - begun
    if not running.done():
        stand.notes.append(f"{tasks} tasks: stopped after {time_limit} s with {crowd.events} of {crowd.wanted} events")
        running.cancel()
        await asyncio.wait([running])
    else:
        running.result()
    if crowd.failed:
        stand.notes.append(f"{tasks} tasks: {crowd.failed} clients failed, the first with {crowd.first_failure}")
    events = max(crowd.events, 1)
    return {
        "events": crowd.events,
        "lost": crowd.lost,
        "missing": crowd.missing,
        "failed": crowd.failed,
        "doubled": crowd.doubled,
        "odd_order": crowd.skipped,
        "rate_per_task": crowd.reached_rate(),
        **({"started_s": crowd.all_begun_at - begun} if crowd.all_begun_at else {}),
        "whole_s": whole_s,
        **crowd.spread(),
        **steady,
        "cpu_us_per_event": sum(cpu.values()) / events * 1e6,
        **{f"cpu_us_per_event_{role.replace(' ', '_')}": spent / events * 1e6 for role, spent in cpu.items()},
        **{
            f"peak_mb_{role.replace(' ', '_')}": procfs.peak_bytes(pids) / 2**20 for role, pids in stand.roles().items()
        },
        **({"redis_bytes_per_event": (_redis_memory(stand) - memory) / events} if stand.started.redis_url else {}),
    }


async def _watch(stand: Stand, crowd: Crowd, running: "asyncio.Task[None]", deadline: float) -> dict[str, float]:
    """Wait for the end; return the cost of an event between the last reader's first event and the first task's end."""
    await _until(lambda: running.done() or crowd.is_steady or time.monotonic() > deadline)
    meter, events = stand.meter(), crowd.events
    await _until(lambda: running.done() or crowd.one_has_ended or time.monotonic() > deadline)
    spent, counted, elapsed = meter.total(), crowd.events - events, meter.elapsed()
    await asyncio.wait([running], timeout=max(0.0, deadline - time.monotonic()))
    # Shorter than this, the kernel's ticks are too coarse.
    if elapsed < 1.0 or not counted:
        return {}
    return {
        "steady_s": elapsed,
        "steady_events_per_s": counted / elapsed,
        "steady_cpu_us_per_event": spent / counted * 1e6,
        **crowd.steady_spread(),
    }


async def _until(is_true: Callable[[], bool]) -> None:
    while not is_true():  # noqa: ASYNC110 - nobody tells; the look is cheap
        await asyncio.sleep(0.05)


def _redis_memory(stand: Stand) -> int:
    return redis_info.memory_bytes(stand.started.redis_url) if stand.started.redis_url else 0
