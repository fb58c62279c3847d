"""W5: many trivial tasks, a hundred under way at a time: tasks per second with their results read.

A result is read in the way that is natural for the system's client.
"""

import asyncio
import time
from typing import Any

from benchmarks.percentiles import spread_ms
from benchmarks.stand import Stand

TITLE = "trivial tasks, 100 under way at a time: tasks/s with results read"
FULL: dict[str, Any] = {"tasks": 2000, "at_once": 100, "time_limit": 60}
QUICK: dict[str, Any] = {"tasks": 50, "at_once": 20, "time_limit": 30}
SYSTEMS = None


async def measure(stand: Stand) -> None:
    numbers = iter(range(stand.params["tasks"]))
    seconds: list[float] = []
    wrong = 0

    async def one_after_the_other() -> None:
        nonlocal wrong
        for number in numbers:
            if stand.is_late:
                return
            begun = time.monotonic()
            wrong += await stand.client.run(number) != number
            seconds.append(time.monotonic() - begun)

    await stand.client.run(-1)
    meter = stand.meter()
    async with asyncio.TaskGroup() as group:
        for _ in range(stand.params["at_once"]):
            group.create_task(one_after_the_other())
    if len(seconds) < stand.params["tasks"]:
        stand.notes.append(f"W5: {len(seconds)} of {stand.params['tasks']} tasks in the time given")
    stand.cases["trivial tasks"] = {
        "tasks": len(seconds),
        "wrong": wrong,
        "tasks_per_s": len(seconds) / meter.elapsed(),
        "cpu_ms_per_task": meter.total() / len(seconds) * 1000,
        **spread_ms(seconds),
    }
