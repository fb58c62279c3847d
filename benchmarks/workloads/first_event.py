"""W1: one task on an idle system, from its submission to its first event at the client, many times in a row.

Between two tasks the driver pauses for a random time of up to half a second: a system that polls would otherwise be met
at the same moment of its interval each time.
"""

import asyncio
import random
import time
from typing import Any

from benchmarks.percentiles import percentile, spread_ms
from benchmarks.stand import Stand
from benchmarks.system import Emit

TITLE = "one task on an idle system: submit to first event"
FULL: dict[str, Any] = {"tasks": 100, "time_limit": 120}
QUICK: dict[str, Any] = {"tasks": 5, "time_limit": 30}
SYSTEMS = None

_LONGEST_PAUSE_S = 0.5
_WARM_UP = 3


async def measure(stand: Stand) -> None:
    random_pause = random.Random(1)
    latencies: list[float] = []
    answers: list[float] = []
    for round_ in range(_WARM_UP + stand.params["tasks"]):
        if stand.is_late:
            stand.notes.append(f"W1: {len(latencies)} tasks in the time given")
            break
        await asyncio.sleep(random_pause.uniform(0, _LONGEST_PAUSE_S))
        arrivals: list[float] = []
        begun = time.monotonic()
        task = await stand.client.submit(Emit(count=1))
        answered = time.monotonic()
        await stand.client.each(task, lambda _, arrivals=arrivals: arrivals.append(time.monotonic()))
        if round_ >= _WARM_UP:
            latencies.append(arrivals[0] - begun)
            answers.append(answered - begun)
    stand.cases["first event"] = {"tasks": len(latencies), **spread_ms(latencies)}
    if answers:
        stand.cases["first event"]["submit_p50_ms"] = percentile(answers, 0.5) * 1000
