"""The workflows that the tests of the command line run; loaded by workers as a file."""

import asyncio
from typing import Any

from pydantic import BaseModel

from tailplane.workers import Context, workflow


class Progress(BaseModel):
    done: int
    total: int


@workflow
async def greet(ctx: Context, name: str = "world") -> str:
    """Greet somebody.

    The rest of the docstring is for the authors.
    """
    ctx.write_event_to_stream(f"hello {name}")
    ctx.write_event_to_stream({"name": name, "raw": b"\x00"}, channel="facts")
    return f"greeted {name}"


@workflow
async def count(ctx: Context, total: int) -> dict[str, int]:
    for done in range(1, total + 1):
        ctx.write_event_to_stream(Progress(done=done, total=total))
        await asyncio.sleep(0)
    return {"total": total}


@workflow
async def fail(ctx: Context, words: str) -> None:
    ctx.write_event_to_stream("about to fail")
    raise ValueError(words)


@workflow
async def ask(ctx: Context, question: str = "may I?") -> str:
    async def think() -> str:
        ctx.write_event_to_stream(question)
        return question

    await ctx.step(think)
    answer: str = await ctx.wait_for_event("answer")
    return answer


@workflow
async def sleep(ctx: Context, anything: Any = None) -> None:
    ctx.write_event_to_stream("asleep")
    await asyncio.Event().wait()
