"""The workflows that the integration tests run."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from tailplane.workers import Context, StateConflict, workflow


class Progress(BaseModel):
    """A typed event."""

    done: int
    total: int


@workflow(keep_last=50)
async def last_words(ctx: Context, n: int) -> int:
    """Count to n in a stream that keeps its end only."""
    for i in range(n):
        await ctx.emit(i)
        await asyncio.sleep(0.001)
    return n


@workflow
async def count(ctx: Context, n: int, pause: float = 0.0) -> int:
    """Write the numbers up to n, as fast as it can or with a pause between them."""
    for i in range(n):
        ctx.write_event_to_stream(i)
        if pause:
            await asyncio.sleep(pause)
    return n


@workflow
async def tally(ctx: Context, n: int) -> int:
    """Count in what the session's tasks share, and say how far it is."""
    found = None
    for done in range(1, n + 1):
        found = await ctx.session_state.update("tally", lambda value: (value or 0) + 1)
        ctx.progress(done, n, "counting")
    return found.version if found else 0


@workflow(retries=1, retry_delay=timedelta(milliseconds=10))
async def once(ctx: Context) -> str:
    """Do something once, however often it runs: its second attempt finds it done."""
    try:
        await ctx.session_state.set("once", ctx.task_id, version=0)
    except StateConflict:
        return "done before"
    raise RuntimeError("after it was done")


@workflow
async def typed(ctx: Context, total: int) -> Progress:
    """Write typed events and return one."""
    for done in range(total):
        ctx.write_event_to_stream(Progress(done=done, total=total))
    return Progress(done=total, total=total)


@workflow
async def block(ctx: Context, seconds: float) -> None:
    """Block the workflows' loop."""
    ctx.write_event_to_stream("about to block")
    time.sleep(seconds)
    ctx.write_event_to_stream("blocked")


@workflow
async def block_until(ctx: Context, path: str) -> str:
    """Block the workflows' loop until a file exists; then write once more, and tell what came of it."""
    ctx.write_event_to_stream("about to block")
    while not Path(path).exists():
        time.sleep(0.02)
    try:
        ctx.write_event_to_stream("after the end")
    except Exception as error:
        Path(path).write_text(type(error).__name__)
        raise
    Path(path).write_text("written")
    return "done"


@workflow
def blocking_steps(ctx: Context, steps: int, folder: str) -> None:
    """Write in a thread, and block after each event until the folder has a file of its number."""
    for step in range(steps):
        ctx.write_event_to_stream({"step": step})
        while not Path(folder, str(step)).exists():
            time.sleep(0.01)


@workflow
async def tick(ctx: Context, pause: float) -> AsyncIterator[int]:
    """Yield numbers for ever."""
    del ctx
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(pause)


@workflow
async def fail(ctx: Context, after: int) -> None:
    """Raise after some events."""
    for i in range(after):
        ctx.write_event_to_stream(i)
    raise LookupError("nothing there: ä")


@workflow
async def write_nonsense(ctx: Context) -> None:
    """Write an event that msgpack can't carry."""
    ctx.write_event_to_stream("before")
    ctx.write_event_to_stream({1, 2, 3})


@workflow
async def return_nonsense(ctx: Context) -> object:
    """Return what msgpack can't carry."""
    ctx.write_event_to_stream("before")
    return object()


@workflow
async def write_huge(ctx: Context) -> None:
    """Write an event over the limit."""
    ctx.write_event_to_stream("x" * (2 * 1024 * 1024))


@workflow(timeout=timedelta(seconds=0.3))
async def too_slow(ctx: Context) -> None:
    """Take longer than its timeout."""
    ctx.write_event_to_stream("begun")
    await asyncio.sleep(60)


@workflow(retries=2, retry_delay=timedelta(milliseconds=50))
async def third_time_lucky(ctx: Context) -> int:
    """Fail twice."""
    ctx.write_event_to_stream(f"attempt {ctx.attempt}")
    if ctx.attempt < 3:
        raise ValueError(f"not in attempt {ctx.attempt}")
    return ctx.attempt


@workflow
async def echo(ctx: Context, value: object) -> object:
    """Write the input, and return it."""
    ctx.write_event_to_stream(value)
    return value


@workflow
def leave(ctx: Context) -> None:
    """Try to end the whole process."""
    ctx.write_event_to_stream("going")
    raise SystemExit(3)


@workflow
async def child_leaves(ctx: Context) -> None:
    """Start a task that tries to end the whole process."""

    async def leave_from_task() -> None:
        raise SystemExit(3)

    ctx.write_event_to_stream("going")
    child = asyncio.create_task(leave_from_task())
    await asyncio.wait({child})


@workflow
async def stop_loop(ctx: Context) -> None:
    """Stop the loop that it runs on."""
    ctx.write_event_to_stream("stopping")
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


@workflow
async def count_in_halves(ctx: Context, n: int, path: str, pause: float = 0.001, until: str | None = None) -> int:
    """Write the numbers up to n, the second half only once a file exists, with a pause between them.

    Where `until` is given they go on until that file exists, too.
    """
    for i in range(n // 2):
        ctx.write_event_to_stream(i)
        await asyncio.sleep(0.001)
    while not Path(path).exists():
        await asyncio.sleep(0.02)
    number = n // 2
    while number < n or (until and not Path(until).exists()):
        ctx.write_event_to_stream(number)
        await asyncio.sleep(pause)
        number += 1
    return number
