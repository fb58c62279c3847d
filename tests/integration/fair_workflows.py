"""A workflow that takes a slot for a while."""

import asyncio

from tailplane.workers import Context, workflow


@workflow
async def doze(ctx: Context, seconds: float) -> None:
    await asyncio.sleep(seconds)
