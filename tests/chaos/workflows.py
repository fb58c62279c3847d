"""The workflows of the load, as the fleet's workers run them. Each follows its `Script`."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from tailplane.workers import Context, workflow
from tests.chaos.script import Script

# Where each run of an attempt leaves a line, outside of all that is tested.
LEDGER = "TAILPLANE_CHAOS_LEDGER"

# Chaos is to interrupt tasks, not to use up their attempts.
RETRIES = 40


class Planned(Exception):
    """What an attempt raises that is meant to fail."""


@workflow(retries=RETRIES)
async def quick(ctx: Context, script: Script) -> object:
    """Write many events in a short time."""
    return await _play(ctx, script)


@workflow(retries=RETRIES)
async def slow(ctx: Context, script: Script) -> object:
    """Take longer than the fleet stays whole."""
    return await _play(ctx, script)


@workflow(retries=RETRIES, retry_delay=timedelta(milliseconds=50))
async def fallible(ctx: Context, script: Script) -> object:
    """Raise in the first attempts."""
    return await _play(ctx, script)


@workflow(retry_on_crash=False)
async def once(ctx: Context, script: Script) -> object:
    """Run at the most once."""
    return await _play(ctx, script)


@workflow(retries=RETRIES)
def threaded(ctx: Context, script: Script) -> object:
    """Write from a thread, with pauses that block."""
    _note(ctx)
    for index in range(script.count):
        ctx.write_event_to_stream(script.datum(ctx.attempt, index))
        if index % script.burst == script.burst - 1:
            time.sleep(script.pause)
    return script.result(ctx.attempt)


@workflow(retries=RETRIES)
async def generated(ctx: Context, script: Script) -> AsyncIterator[object]:
    """Yield the events; there is no result."""
    _note(ctx)
    for index in range(script.count):
        yield script.datum(ctx.attempt, index)
        if index % script.burst == script.burst - 1:
            await asyncio.sleep(script.pause)


async def _play(ctx: Context, script: Script) -> object:
    _note(ctx)
    for index in range(script.length(ctx.attempt)):
        ctx.write_event_to_stream(script.datum(ctx.attempt, index))
        if index % script.burst == script.burst - 1:
            await asyncio.sleep(script.pause)
    if script.raises(ctx.attempt):
        raise Planned(f"attempt {ctx.attempt}")
    return script.result(ctx.attempt)


def _note(ctx: Context) -> None:
    line = json.dumps({"task_id": ctx.task_id, "attempt": ctx.attempt, "pid": os.getpid(), "at": time.time()})
    ledger = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # One write, so that lines of several workers never mix.
        os.write(ledger, line.encode() + b"\n")
    finally:
        os.close(ledger)
