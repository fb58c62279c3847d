"""Looks for tasks that the queue has lost, from outside: with the settings of a server, and no server of its own."""

from redis.asyncio import Redis

from tailplane.broker import Broker, connect, connect_cluster
from tailplane.broker.settings import DeploymentSettings
from tailplane.broker.strays import Survey, survey


async def reconcile(settings: DeploymentSettings, *, mend: bool) -> Survey:
    """Look at all records of a deployment; with `mend`, queue again what the queue has lost.

    Raises:
        StoreUnavailable: Redis does not answer, or gives this user no right to look through its keys.
    """
    redis = connect(settings.redis_url, Redis)
    shards = connect_cluster(settings.streams_url) if settings.streams_url else None
    try:
        broker = Broker.over(
            redis,
            prefix=settings.prefix,
            retention=settings.retention,
            start_within=settings.retention,
            dead_letter_retention=settings.dead_letter_retention,
            shards=shards,
        )
        return await survey(broker, await broker.record_servers(), mend=mend)
    finally:
        if shards is not None:
            await shards.aclose()
        await redis.aclose(close_connection_pool=True)
