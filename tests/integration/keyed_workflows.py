"""A workflow of which only so many may run at once, and which finds out by itself whether they do."""

import asyncio
import fcntl
import os
from pathlib import Path

from tailplane.workers import Context, workflow


@workflow(retries=0)
async def occupy(ctx: Context, folder: str, places: int, seconds: float) -> int:
    """Take one of so many places for a while: the kernel gives a file's lock to one, and back when its process dies."""
    for number in range(places):
        place = os.open(Path(folder) / f"place-{number}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(place)
            continue
        try:
            # Long enough for somebody to look who it is.
            if seconds > 0.1:
                os.pwrite(place, b"%d" % os.getpid(), 0)
            await asyncio.sleep(seconds)
            return number
        finally:
            os.ftruncate(place, 0)
            os.close(place)
    # Not only an error that might be retried: whatever becomes of the task, it was seen.
    (Path(folder) / f"crowded-{ctx.task_id}").touch()
    raise AssertionError("more run at once than the limit says")


@workflow(max_running=2)
async def bounded(ctx: Context, folder: str, seconds: float) -> int:
    """The same, where the workflow itself has a bound."""
    return await occupy(ctx, folder, 2, seconds)


@workflow
async def free(ctx: Context) -> None:
    """Nothing keeps it from running."""
