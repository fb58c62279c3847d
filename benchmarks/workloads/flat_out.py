"""W3: one task that writes as fast as it can: events per second at the client, none lost, none out of order.

The rate is taken between the first and the last event at the client, so that the start of the task does not count; the
whole duration from the submission is noted beside it. A short stream goes first, and tells how long the others would
take: where the first does not fit into the time given it is scaled down, the others are left out.
"""

import time
from typing import Any

from benchmarks.raw_readers import RawReaders
from benchmarks.stand import Stand
from benchmarks.system import Emit
from benchmarks.tally import Tally

TITLE = "one task, events of 200 bytes as fast as it can"
FULL: dict[str, Any] = {"pilot": 1000, "events": [20_000, 500_000], "longest": 30, "time_limit": 120}
QUICK: dict[str, Any] = {"pilot": 200, "events": [2_000], "longest": 10, "time_limit": 30}
SYSTEMS = None


async def measure(stand: Stand) -> None:
    pilot = await _stream(stand, stand.params["pilot"])
    rate = pilot["events_per_s"]
    done = 0
    for wanted in stand.params["events"]:
        count = min(wanted, int(rate * stand.params["longest"]))
        if (done and count < wanted) or stand.is_late:
            stand.notes.append(f"W3: {wanted} events were left out, at {rate:.0f}/s")
            break
        if count < wanted:
            stand.notes.append(f"W3: {count} events instead of {wanted}, at {rate:.0f}/s")
        done = count
        figures = await _stream(stand, count)
        stand.cases[f"{wanted} events"] = figures
        rate = figures["events_per_s"]
    await _to_bare_sockets(stand, done)


async def _stream(stand: Stand, count: int) -> dict[str, float]:
    tally = Tally(count)
    meter = stand.meter()
    begun = time.monotonic()
    task = await stand.client.submit(Emit(count=count))
    await stand.client.each(task, tally.note)
    cpu = meter.seconds()
    return {
        "events": count,
        "events_per_s": (count - 1) / max(tally.last_at - tally.first_at, 1e-6),
        "whole_s": tally.last_at - begun,
        "lost": tally.lost,
        "doubled": tally.doubled,
        "cpu_us_per_event": sum(cpu.values()) / count * 1e6,
        **{f"cpu_us_per_event_{role.replace(' ', '_')}": seconds / count * 1e6 for role, seconds in cpu.items()},
    }


async def _to_bare_sockets(stand: Stand, count: int) -> None:
    """Have the same read by a bare socket: what the servers do without our client."""
    probe = stand.client.streams("probe")
    for name in probe:
        task = await stand.client.submit(Emit(count=count))
        readers = RawReaders([stand.client.streams(task)[name]], expected=count)
        await readers.run(stand.params["longest"])
        stand.cases[f"bare socket, {name}"] = {
            "events": count,
            "events_per_s": readers.deliveries / max(readers.last_at - readers.first_at, 1e-6),
            # What the time limit cuts off may still have come.
            "missing" if readers.unfinished else "lost": count - readers.deliveries,
        }
