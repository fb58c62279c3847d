"""W7: readers whose connections are cut at random: what they lose, what they get twice, and how long they stand still.

Each reader is a client of its own behind a proxy of its own in the driver, which resets the connection. The delay is
taken from the cut to the first event at the client that was written after the cut. Needs a system whose address is a
`url`.
"""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from benchmarks.percentiles import spread_ms
from benchmarks.proxy import Proxy, proxy
from benchmarks.stand import Stand
from benchmarks.system import Emit
from benchmarks.tally import Tally

TITLE = "20 readers at 50 events/s, each cut about once a second and resumed"
FULL: dict[str, Any] = {"readers": 20, "rate": 50, "seconds": 12, "time_limit": 60}
QUICK: dict[str, Any] = {"readers": 3, "rate": 50, "seconds": 3, "time_limit": 20}
SYSTEMS = None

# Seconds between two cuts of one reader, at least and at most.
_PAUSE_S = (0.5, 1.5)


async def measure(stand: Stand) -> None:
    emit = Emit(count=int(stand.params["rate"] * stand.params["seconds"]), rate=stand.params["rate"])
    readers = [_CutReader(emit, random.Random(seed)) for seed in range(stand.params["readers"])]
    following = [asyncio.create_task(reader.follow(stand)) for reader in readers]
    await asyncio.wait(following, timeout=stand.params["time_limit"])
    if late := [one for one in following if not one.done()]:
        stand.notes.append(f"W7: {len(late)} of {len(readers)} readers were not at the end in time")
        for one in late:
            one.cancel()
    await asyncio.gather(*following, return_exceptions=bool(late))
    stand.cases["cut readers"] = {
        "events": emit.count * len(readers),
        "cuts": sum(reader.cuts for reader in readers),
        "lost": sum(reader.lost for reader in readers),
        "missing": sum(reader.missing for reader in readers),
        "doubled": sum(reader.tally.doubled for reader in readers),
        **spread_ms([delay for reader in readers for delay in reader.delays]),
    }


class _CutReader:
    """One task and its reader."""

    def __init__(self, emit: Emit, chance: random.Random) -> None:
        self.tally = Tally(emit.count)
        self.cuts = 0
        self.has_ended = False
        self.delays: list[float] = []
        self._emit = emit
        self._chance = chance
        self._cut_at: float | None = None

    async def follow(self, stand: Stand) -> None:
        where = urlsplit(stand.started.address["url"])
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(proxy(where.port or 80))
            client = stand.system.make_client()
            await client.open({**stand.started.address, "url": f"http://127.0.0.1:{one.port}"})
            stack.push_async_callback(client.close)
            task = await stand.client.submit(self._emit)
            cutting = asyncio.create_task(self._cut(one))
            try:
                await client.each(task, self._note)
                self.has_ended = True
            finally:
                cutting.cancel()

    @property
    def lost(self) -> int:
        """How many were passed over, or had not come at the stream's end."""
        return self.tally.lost if self.has_ended else self.tally.skipped

    @property
    def missing(self) -> int:
        """How many the time limit cut off."""
        return self.tally.lost - self.lost

    def _note(self, event: dict[str, Any]) -> None:
        self.tally.note(event)
        if self._cut_at is not None and event["t"] > self._cut_at:
            self.delays.append(time.monotonic() - self._cut_at)
            self._cut_at = None

    async def _cut(self, one: Proxy) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(*_PAUSE_S))
            if self.tally.count and one.cut():
                self.cuts += 1
                self._cut_at = self._cut_at or time.monotonic()
