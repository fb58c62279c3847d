"""The operator's way to a deployment: straight to its Redis, past all control planes. Who reaches it may do everything.

Used by commands with `--direct`, and by those that work on Redis alone. docs/decisions/0025 has the reasons.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from tailplane.broker import Broker, connect
from tailplane.broker.opening import open_broker
from tailplane.broker.settings import DeploymentSettings


@asynccontextmanager
async def opened_broker(settings: DeploymentSettings) -> AsyncIterator[Broker]:
    """Give the stores of the deployment that the settings name, for the length of a block."""
    redis = connect(settings.redis_url, Redis)
    try:
        async with open_broker(redis, settings) as broker:
            yield broker
    finally:
        await redis.aclose(close_connection_pool=True)
