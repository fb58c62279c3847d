"""The worker: stock arq, with `max_jobs` as high as the load needs."""

import asyncio
import time
from typing import Any, ClassVar

from arq.connections import RedisSettings
from redis.asyncio import Redis

from benchmarks.systems.by_hand import config
from benchmarks.systems.by_hand.batch import Batch
from benchmarks.systems.by_hand.event_stream import EventStream


async def startup(ctx: dict[str, Any]) -> None:
    ctx["events"] = Redis.from_url(config.REDIS_URL)


async def shutdown(ctx: dict[str, Any]) -> None:
    await ctx["events"].aclose()


async def emit(ctx: dict[str, Any], arguments: dict[str, Any]) -> int:
    kind = Batch if config.BATCHED else EventStream
    stream = kind(ctx["events"], ctx["job_id"])
    padding = "x" * arguments["pad"]
    if arguments["delay"]:
        await asyncio.sleep(arguments["delay"])
    for i in range(arguments["count"]):
        await stream.add({"i": i, "t": time.monotonic(), "pad": padding})
        if arguments["rate"]:
            await asyncio.sleep(1 / arguments["rate"])
    await stream.end(arguments["count"])
    return arguments["count"]


async def echo(ctx: dict[str, Any], arguments: dict[str, Any]) -> Any:
    await EventStream(ctx["events"], ctx["job_id"]).end(arguments["value"])
    return arguments["value"]


class WorkerSettings:
    functions: ClassVar = [emit, echo]
    redis_settings = RedisSettings.from_dsn(config.REDIS_URL)
    max_jobs = config.MAX_JOBS
    on_startup = startup
    on_shutdown = shutdown
