"""A launch that asks whoever watches it: the page reads its countdown, and answers its question.

TAILPLANE_CORS_ORIGINS=http://127.0.0.1:8422 tailplane dev examples/browser_tokens/workflow.py
"""

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field

from tailplane.workers import Context, workflow


class Answer(BaseModel):
    """Sent to the task by the page."""

    go: bool


@workflow
async def launch(ctx: Context, start: Annotated[int, Field(ge=1, le=1000)] = 10, pause: float = 0.3) -> str:
    """Count down to 1, and ask before lift-off."""
    for number in range(start, 0, -1):
        ctx.write_event_to_stream({"number": number})
        await asyncio.sleep(pause)
    ctx.write_event_to_stream({"question": "Lift off?"})
    answer = await ctx.wait_for_event(Answer)
    return "lift-off" if answer.go else "scrubbed"
