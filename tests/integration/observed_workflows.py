"""The workflows that the tests of traces and logs run."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

from opentelemetry import trace

from tailplane.workers import Context, workflow

log = logging.getLogger("shop.orders")


@workflow(retries=1, retry_delay=timedelta(milliseconds=20))
async def order(ctx: Context, card: str) -> str:
    """Fail once; each time within a span of its own, and with a line in the log."""
    with trace.get_tracer("shop").start_as_current_span("charge"):
        log.info("charging, attempt %d", ctx.attempt)
        ctx.write_event_to_stream(f"card {card}")
        await asyncio.sleep(0)
        if ctx.attempt == 1:
            raise ConnectionError(f"no answer about {card}")
        return f"charged {card}"


@workflow
def in_a_thread(ctx: Context) -> None:
    """Make a span and log in a thread."""
    del ctx
    with trace.get_tracer("shop").start_as_current_span("blocking"):
        log.warning("from a thread")


@workflow
async def one_by_one(ctx: Context) -> AsyncIterator[int]:
    """Make a span in an async generator, and log from a thread of its own."""
    del ctx
    with trace.get_tracer("shop").start_as_current_span("yielding"):
        await asyncio.to_thread(log.warning, "from a generator's thread")
        yield 1


@workflow(log_events="DEBUG", retries=1, retry_delay=timedelta(milliseconds=20))
async def talkative(ctx: Context) -> None:
    """Log below what standard error shows, and fail once."""
    log.debug("attempt %d begins", ctx.attempt)
    ctx.write_event_to_stream(ctx.attempt)
    if ctx.attempt == 1:
        raise ConnectionError("no answer")
