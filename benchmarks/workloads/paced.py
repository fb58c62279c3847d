"""W2: one task that writes at a steady rate, from the writing of an event to the client's code having it."""

import time
from typing import Any

from benchmarks.percentiles import spread_ms
from benchmarks.stand import Stand
from benchmarks.system import Emit

TITLE = "one task, 200 events at 100/s: write to client"
FULL: dict[str, Any] = {"events": 200, "rate": 100, "tasks": 3, "time_limit": 60}
QUICK: dict[str, Any] = {"events": 50, "rate": 100, "tasks": 1, "time_limit": 30}
SYSTEMS = None


async def measure(stand: Stand) -> None:
    latencies: list[float] = []
    for _ in range(stand.params["tasks"]):
        task = await stand.client.submit(Emit(count=stand.params["events"], rate=stand.params["rate"]))
        await stand.client.each(task, lambda event: latencies.append(time.monotonic() - event["t"]))
        if stand.is_late:
            break
    stand.cases["one task"] = {"events": len(latencies), **spread_ms(latencies)}
