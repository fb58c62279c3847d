"""A task's stream as its job writes it: one XADD per event."""

import json
from typing import Any

from redis.asyncio import Redis

from benchmarks.systems.by_hand import config


class EventStream:
    """The writing end of one task's stream."""

    def __init__(self, redis: Redis, task_id: str) -> None:
        self.redis = redis
        self.key = config.events_key(task_id)

    async def add(self, event: Any) -> None:
        await self.redis.xadd(self.key, {"type": "event", "data": json.dumps(event)})

    async def end(self, result: Any) -> None:
        await self.redis.xadd(self.key, {"type": "end", "data": json.dumps(result)})
        await self.redis.expire(self.key, config.RETENTION_S)
