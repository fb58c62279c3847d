"""A workflow of which only so many may run at once, and which finds out by itself whether they do."""

import asyncio
import fcntl
import os
from pathlib import Path

from tailplane.workers import Context, workflow


@workflow(retries=0)
async def occupy(ctx: Context, folder: str, places: int, seconds: float | None) -> int:
    """Take one of so many places for a while: the kernel gives a file's lock to one, and back when its process dies.

    Without `seconds` the first attempt keeps it until its process is struck, however slow the machine is.
    """
    for number in range(places):
        place = os.open(Path(folder) / f"place-{number}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(place)
            continue
        try:
            # Of one that was killed there is something left.
            os.ftruncate(place, 0)
            if seconds is None and ctx.attempt == 1:
                os.pwrite(place, b"%d" % os.getpid(), 0)
                await asyncio.Event().wait()
            await asyncio.sleep(seconds or 0)
            return number
        finally:
            os.ftruncate(place, 0)
            os.close(place)
    # Not only an error that might be retried: whatever becomes of the task, it was seen.
    (Path(folder) / f"crowded-{ctx.task_id}").touch()
    raise AssertionError("more run at once than the limit says")


@workflow(max_running=2)
async def bounded(ctx: Context, folder: str, seconds: float | None) -> int:
    """The same, where the workflow itself has a bound."""
    return await occupy(ctx, folder, 2, seconds)


@workflow
async def free(ctx: Context) -> None:
    """Nothing keeps it from running."""
