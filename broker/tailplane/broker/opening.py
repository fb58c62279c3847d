"""Opens the stores of a deployment as its settings say, for programs; and closes what it opened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from tailplane.broker.broker import Broker
from tailplane.broker.redis_cluster import connect_cluster
from tailplane.broker.settings import DeploymentSettings


@asynccontextmanager
async def open_broker(redis: Redis, settings: DeploymentSettings) -> AsyncIterator[Broker]:
    """Yield the stores of a deployment; what is connected to its cluster is closed at the end, `redis` is not."""
    shards = connect_cluster(settings.streams_url) if settings.streams_url else None
    try:
        yield Broker.over(
            redis,
            prefix=settings.prefix,
            retention=settings.retention,
            start_within=settings.start_within,
            dead_letter_retention=settings.dead_letter_retention,
            shards=shards,
        )
    finally:
        if shards is not None:
            await shards.aclose()
