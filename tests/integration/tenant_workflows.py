"""Workflows in which a task has to do with others: children, what a session shares, messages."""

import asyncio

from pydantic import BaseModel

from tailplane.workers import Context, workflow


class Word(BaseModel):
    text: str


@workflow
async def child(ctx: Context, secret: str) -> str:
    """Write the secret, and return it."""
    ctx.write_event_to_stream(secret)
    return secret


@workflow
async def parent(ctx: Context, secret: str) -> list[str]:
    """Run children at once, each under the name that other tenants' have, too, and show what they write."""
    return await ctx.gather(*(ctx.run_child("child", f"{secret} {n}", merge=f"child {n}") for n in range(3)))


@workflow
async def share(ctx: Context, secret: str) -> list[str]:
    """Add the secret to what the session's tasks share, and return all of it."""
    found = await ctx.session_state.update("words", lambda words: [*(words or []), secret])
    return list(found.value)


@workflow
async def ask(ctx: Context, secret: str) -> str:
    """Wait for a word."""
    ctx.write_event_to_stream(secret)
    word: Word = await ctx.wait_for_event(Word, timeout=300)
    return word.text


@workflow
async def linger(ctx: Context, secret: str) -> None:
    """Run until it is cancelled."""
    ctx.write_event_to_stream(secret)
    await asyncio.Event().wait()
