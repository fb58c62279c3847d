"""Values that several may change: each has a version, by which a writer tells that nobody came between. No I/O."""

import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tailplane.protocol.errors import StateConflict

# Tries of one update, and the longest pause between two, in seconds: twenty writers of one key all get through.
TRIES = 30
_PAUSE, _LONGEST_PAUSE = 0.005, 0.2


@dataclass(frozen=True, slots=True)
class Versioned:
    """A value of a session's state.

    Attributes:
        value: what was set last; None where nothing was.
        version: how often it was set; 0: never.
    """

    value: Any = None
    version: int = 0


async def update(
    read: Callable[[], Awaitable[Versioned]],
    write: Callable[[Any, int], Awaitable[int]],
    change: Callable[[Any], Any],
    sleep: Callable[[float], Awaitable[None]],
) -> Versioned:
    """Set a value to what `change` makes of it, again and again until nobody came between.

    Args:
        read: returns what there is.
        write: sets a value that has a version, and returns its next one.
        change: is given the value, and returns, or gives to await, the next one. It may be called several times.
        sleep: waits for so many seconds.
    Raises:
        StateConflict: somebody came between at each of `TRIES`.
    """
    for tried in range(TRIES):
        found = await read()
        made = change(found.value)
        value = await made if inspect.isawaitable(made) else made
        try:
            return Versioned(value, await write(value, found.version))
        except StateConflict:
            if tried == TRIES - 1:
                raise
        # Drawn, or those who met once would meet again.
        await sleep(random.uniform(0, min(_LONGEST_PAUSE, _PAUSE * 2**tried)))
    raise AssertionError("unreachable")
