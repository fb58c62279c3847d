"""Something to watch: a countdown that says each number when its time has come.

Serve it with:

    tailplane dev examples/browser/workflow.py
"""

import asyncio
from typing import Annotated

from pydantic import Field

from tailplane.workers import Context, workflow


@workflow
async def countdown(ctx: Context, start: Annotated[int, Field(ge=1, le=1000)] = 10, pause: float = 0.3) -> str:
    """Count down to 1."""
    for number in range(start, 0, -1):
        ctx.write_event_to_stream({"number": number})
        await asyncio.sleep(pause)
    return "lift-off"
