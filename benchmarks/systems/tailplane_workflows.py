"""The workflows that Tailplane's workers run here."""

import asyncio
import time
from typing import Any


async def emit(ctx, count: int, rate: float, pad: int, delay: float) -> int:
    padding = "x" * pad
    if delay:
        await asyncio.sleep(delay)
    if rate:
        for i in range(count):
            ctx.write_event_to_stream({"i": i, "t": time.monotonic(), "pad": padding})
            await asyncio.sleep(1 / rate)
    else:
        for i in range(count):
            await ctx.emit({"i": i, "t": time.monotonic(), "pad": padding})
    return count


async def echo(ctx, value: Any) -> Any:
    return value
