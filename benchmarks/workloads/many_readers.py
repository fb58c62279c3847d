"""W6: one task with many readers, at a steady rate and as fast as it can.

The readers are bare sockets in one thread of the driver, the same for all systems, so that the servers are measured and
not the clients. The task waits before its first event, until all have connected. Latencies are of bursts: from the
writing of the last event in a piece to that piece's arrival. Beside them a hundred readers of the system's own client,
for systems that have no plain HTTP stream.
"""

import asyncio
import time
from typing import Any

from benchmarks.percentiles import spread_ms
from benchmarks.raw_readers import RawReaders
from benchmarks.stand import Figures, Stand
from benchmarks.system import Emit
from benchmarks.tally import Tally

TITLE = "one task, 100 and 1,000 readers: 2,000 events at 100/s, then flat out"
FULL: dict[str, Any] = {
    "readers": [100, 1000],
    "events": 2000,
    "rate": 100,
    "flat_out": {"100": 20_000, "1000": 2000},
    "own_client": {"readers": 100, "events": 500, "flat_out": 1000},
    "delay": 3.0,
    "longest_flat_out": 15,
    "time_limit": 40,
    "longest_run": 400,
}
QUICK: dict[str, Any] = {
    "readers": [20],
    "events": 100,
    "rate": 100,
    "flat_out": {"20": 500},
    "own_client": {"readers": 5, "events": 50, "flat_out": 200},
    "delay": 0.5,
    "longest_flat_out": 10,
    "time_limit": 20,
}
SYSTEMS = None


async def measure(stand: Stand) -> None:
    params = stand.params
    forms = list(stand.client.streams("probe"))
    for readers in params["readers"] if forms else ():
        paced = Emit(count=params["events"], rate=params["rate"], delay=params["delay"])
        stand.cases[f"{readers} readers at {params['rate']}/s, {forms[0]}"] = await _fan_out(
            stand, forms[0], readers, paced
        )
        for form in forms:
            flat_out = Emit(count=params["flat_out"][str(readers)], delay=params["delay"])
            stand.cases[f"{readers} readers flat out, {form}"] = await _fan_out(stand, form, readers, flat_out)
    own = params["own_client"]
    paced = Emit(count=own["events"], rate=params["rate"], delay=params["delay"])
    stand.cases[f"{own['readers']} own clients at {params['rate']}/s"] = await _own(stand, own["readers"], paced)
    flat_out = Emit(count=own["flat_out"], delay=params["delay"])
    stand.cases[f"{own['readers']} own clients flat out"] = await _own(stand, own["readers"], flat_out)


async def _fan_out(stand: Stand, form: str, count: int, emit: Emit) -> Figures:
    task = await stand.client.submit(emit)
    readers = RawReaders([stand.client.streams(task)[form]] * count, expected=emit.count)
    meter = stand.meter()
    limit = _limit(stand, emit)
    await readers.run(limit)
    missing = count * emit.count - readers.deliveries
    if missing:
        stand.notes.append(f"{count} readers, {form}: {missing} deliveries missing after {limit:g} s")
    if readers.first_at < readers.since:
        stand.notes.append(f"{count} readers, {form}: the first event came before all had connected")
    figures = {
        "events": emit.count,
        "missing": missing,
        "cpu_us_per_delivery": meter.total() / max(readers.deliveries, 1) * 1e6,
    }
    if emit.rate:
        return figures | spread_ms(readers.latencies)
    return figures | {"deliveries_per_s": readers.deliveries / max(readers.last_at - readers.first_at, 1e-6)}


async def _own(stand: Stand, count: int, emit: Emit) -> Figures:
    latencies: list[float] = []
    tallies = [Tally(emit.count) for _ in range(count)]

    async def read(tally: Tally) -> None:
        def note(event: dict[str, Any]) -> None:
            latencies.append(time.monotonic() - event["t"])
            tally.note(event)

        await stand.client.each(task, note)

    task = await stand.client.submit(emit)
    limit = _limit(stand, emit)
    reading = [asyncio.create_task(read(tally)) for tally in tallies]
    await asyncio.wait(reading, timeout=limit)
    elapsed = max(t.last_at for t in tallies) - min(t.first_at for t in tallies if t.count) if latencies else 0.0
    if late := [one for one in reading if not one.done()]:
        elapsed = limit - emit.delay
        stand.notes.append(f"own clients: {len(late)} of {count} were not at the end in time")
        for one in late:
            one.cancel()
    await asyncio.gather(*reading, return_exceptions=bool(late))
    figures = {"events": emit.count, "missing": count * emit.count - len(latencies)}
    if emit.rate:
        return figures | spread_ms(latencies)
    return figures | {"deliveries_per_s": len(latencies) / max(elapsed, 1e-6)}


def _limit(stand: Stand, emit: Emit) -> float:
    """Return for how long readers read at the most: what a slow system delivers in that time makes its rate."""
    return emit.delay + stand.params["time_limit" if emit.rate else "longest_flat_out"]
