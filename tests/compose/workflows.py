"""The workflows that the cluster's workers run: those of chaos, and two that tell where and when they run."""

import asyncio
import socket
import time

from tailplane.workers import Context, workflow
from tests.chaos.workflows import fallible, generated, once, quick, slow, threaded

__all__ = ["clocked", "fallible", "generated", "once", "quick", "slow", "threaded", "whereabouts"]


@workflow
async def whereabouts(ctx: Context, seconds: float) -> str:
    """Take a while; return which container it was."""
    await asyncio.sleep(seconds)
    return socket.gethostname()


@workflow
async def clocked(ctx: Context, count: int, pause: float) -> None:
    """Write the time, by the clock that the machine's containers share."""
    for _ in range(count):
        ctx.write_event_to_stream(time.time())
        await asyncio.sleep(pause)
