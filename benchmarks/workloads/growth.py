"""W9: how cost grows: with the number of tasks, of streams, and with the length of a stream.

Tasks: 10 to 3,000 of them write the same number of events per second together, so that only their number differs; the
cost of an event is taken while all of them run, without submitting and connecting. Streams: the same number of events,
as fast as it goes, over 1 to 100 streams. Length: from asking for a stream from its middle to the first event.
"""

import asyncio
import time
from typing import Any

from benchmarks.percentiles import spread_ms
from benchmarks.stand import Figures, Stand
from benchmarks.system import Emit
from benchmarks.tally import Tally
from benchmarks.workloads.many_tasks import run_crowd

TITLE = "how cost grows with tasks, streams and the length of a stream"
FULL: dict[str, Any] = {
    "tasks": [10, 100, 1000, 3000],
    "events_per_s": 3000,
    "seconds": 8,
    "tasks_started_per_s": 250,
    "streams": [1, 10, 100],
    "events": 300_000,
    "lengths": [1000, 10_000, 100_000, 1_000_000],
    "reads": 20,
    "time_limit": 120,
    "longest_run": 700,
    "runs": 3,
}
QUICK: dict[str, Any] = {
    "tasks": [5, 20],
    "events_per_s": 200,
    "seconds": 2,
    "tasks_started_per_s": 100,
    "streams": [1, 5],
    "events": 5000,
    "lengths": [1000, 5000],
    "reads": 3,
    "time_limit": 30,
}
SYSTEMS = frozenset({"tailplane"})


async def measure(stand: Stand) -> None:
    params = stand.params
    start_s = 1 / params["tasks_started_per_s"]
    for tasks in params["tasks"]:
        # Long enough for all to run side by side for the time wanted: judged by how long the ones before took to start.
        seconds = params["seconds"] + tasks * start_s * 1.5
        figures = await run_crowd(stand, tasks, params["events_per_s"] / tasks, seconds, params["time_limit"])
        start_s = figures.get("started_s", 0.0) / tasks or start_s
        # The whole includes what starting each task costs, over few events each.
        kept = ("events", "lost", "missing", "failed", "doubled", "rate_per_task", "started_s")
        stand.cases[f"{tasks} tasks, {params['events_per_s']} events/s in all"] = {
            name: value for name, value in figures.items() if name in kept or name.startswith("steady_")
        }
    for streams in params["streams"]:
        stand.cases[f"{streams} streams flat out"] = await _flat_out(stand, streams)
    for length in params["lengths"]:
        stand.cases[f"from the middle of {length} events"] = await _from_the_middle(stand, length)


async def _flat_out(stand: Stand, streams: int) -> Figures:
    tallies = [Tally(stand.params["events"] // streams) for _ in range(streams)]

    async def follow(tally: Tally) -> None:
        task = await stand.client.submit(Emit(count=stand.params["events"] // streams))
        await stand.client.each(task, tally.note)

    meter = stand.meter()
    async with asyncio.timeout(stand.params["time_limit"]), asyncio.TaskGroup() as group:
        for tally in tallies:
            group.create_task(follow(tally))
    events = sum(tally.count for tally in tallies)
    return {
        "events": events,
        "lost": sum(tally.lost for tally in tallies),
        "doubled": sum(tally.doubled for tally in tallies),
        "events_per_s": events / (max(t.last_at for t in tallies) - min(t.first_at for t in tallies)),
        "cpu_us_per_event": meter.total() / events * 1e6,
    }


async def _from_the_middle(stand: Stand, length: int) -> Figures:
    task = await stand.client.submit(Emit(count=length))
    tally = Tally(length)
    async with asyncio.timeout(stand.params["time_limit"]):
        await stand.client.each(task, tally.note)
    waits: list[float] = []
    for _ in range(stand.params["reads"]):
        begun = time.monotonic()
        events = stand.client.events(task, after=length // 2)
        batch = await anext(events)
        waits.append(time.monotonic() - begun)
        await events.aclose()
        if batch[0]["i"] != length // 2:
            raise AssertionError(f"asked for event {length // 2}, got {batch[0]['i']}")
    return {"lost": tally.lost, "doubled": tally.doubled, **spread_ms(waits)}
