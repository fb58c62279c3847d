"""A workflow that is a part of its worker's image.

docker-compose build worker && docker build -t my-worker examples/own_image
"""

import asyncio

from tailplane.workers import Context, workflow


@workflow
async def count_down(ctx: Context, start: int = 3) -> str:
    """Count down to nothing."""
    for number in range(start, 0, -1):
        ctx.write_event_to_stream(number)
        await asyncio.sleep(0.1)
    return "lift-off"
