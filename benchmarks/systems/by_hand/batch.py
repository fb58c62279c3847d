"""A task's stream as its job writes it, in batches: a pipeline of XADDs per 100 events or 5 ms."""

import asyncio
import json
from typing import Any

from redis.asyncio import Redis

from benchmarks.systems.by_hand.event_stream import EventStream

MOST_EVENTS = 100
LONGEST_WAIT_S = 0.005


class Batch(EventStream):
    """Gathers events and sends them together."""

    def __init__(self, redis: Redis, task_id: str) -> None:
        super().__init__(redis, task_id)
        self._waiting: list[str] = []
        self._timer: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    async def add(self, event: Any) -> None:
        self._waiting.append(json.dumps(event))
        if len(self._waiting) >= MOST_EVENTS:
            await self._flush()
        elif self._timer is None:
            self._timer = asyncio.create_task(self._flush_later())

    async def end(self, result: Any) -> None:
        if self._timer is not None:
            await self._timer
        await self._flush()
        await super().end(result)

    async def _flush_later(self) -> None:
        await asyncio.sleep(LONGEST_WAIT_S)
        self._timer = None
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            events, self._waiting = self._waiting, []
            if events:
                pipeline = self.redis.pipeline(transaction=False)
                for event in events:
                    pipeline.xadd(self.key, {"type": "event", "data": event})
                await pipeline.execute()
