"""What a control plane does once in a while, for as long as it lives: Redis may come and go, no surprise ends it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from tailplane.broker import Outage
from tailplane.protocol.errors import StoreUnavailable

log = structlog.get_logger(__name__)


async def repeat(
    work: Callable[[], Awaitable[object]], every: timedelta | Callable[[], timedelta], outage: Outage
) -> None:
    """Do `work` again and again until cancelled.

    Args:
        work: one round; what it raises is logged and does not end the repetition.
        every: how long between two rounds, about; what tells it is asked before each.
        outage: notes when Redis is away; says what the rounds are for.
    """
    while True:
        # Jitter keeps a deployment's control planes from asking all at once.
        pause = every if isinstance(every, timedelta) else every()
        await asyncio.sleep(pause.total_seconds() * random.uniform(0.8, 1.2))
        try:
            await work()
        except StoreUnavailable as error:
            outage.noticed(error)
        except Exception:
            log.exception("a round failed", what=outage.what)
        else:
            outage.over()
