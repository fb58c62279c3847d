"""Patience with Redis: what needs it, and may be done again, is tried until it is done. On the platform's loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from tailplane.protocol.errors import StoreForbidden, StoreUnavailable

log = structlog.get_logger("tailplane.workers")

T = TypeVar("T")

# Seconds between two tries.
_FIRST, _LONGEST = 0.05, 0.2


async def patiently(
    work: Callable[[], Awaitable[T]],
    noticed: Callable[[StoreUnavailable], object] | None = None,
    longest: float = _LONGEST,
) -> T:
    """Return what comes of `work`.

    Args:
        noticed: told of each try that failed; raises where that was the last one. Without, it is logged what Redis
            refuses, once.
        longest: seconds between two tries at the most.
    """
    noticed = noticed or telling_of_refusals()
    pause = _FIRST
    while True:
        try:
            return await work()
        except StoreUnavailable as error:
            noticed(error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


def telling_of_refusals(said: str = "Redis refuses") -> Callable[[StoreUnavailable], None]:
    """Return what is told of each try that failed, and logs the first one that was refused, as `said`."""
    was_said = False

    def noticed(error: StoreUnavailable) -> None:
        # Of a store that is away others tell; what is asked for here alone may be refused to nobody else.
        nonlocal was_said
        if isinstance(error, StoreForbidden) and not was_said:
            was_said = True
            log.error(said, reason=str(error))

    return noticed


class Patience:
    """The patience of one attempt.

    Args:
        is_lost: whether the task is in other hands: then nothing of it is ours to do any more.
    """

    def __init__(self, is_lost: Callable[[], bool]) -> None:
        self._is_lost = is_lost

    async def get(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Return what comes of `work`; None: the task was lost before."""

        async def unless_lost() -> T | None:
            return None if self._is_lost() else await work()

        return await patiently(unless_lost)
