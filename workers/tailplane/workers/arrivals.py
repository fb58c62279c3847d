"""The messages of a task's inbox, as one attempt's code waits for them. Lives on the workflows' loop.

The platform's side reads the inbox (`inbox_watch`) and hands over what has come.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from tailplane.broker.deliveries import CHILD_ENDED
from tailplane.broker.memory import Message


class Arrivals:
    """What has come for one task.

    Args:
        messages: what earlier attempts knew of.
        taken: the numbers of those that earlier attempts got, or refused.
        watch: lets the platform look for more, from now on.

    Attributes:
        count: how many have come, as far as is known here.
        seen: how many all have looked at who wait.
    """

    def __init__(self, messages: Sequence[Message], taken: Iterable[int], watch: Callable[[], None]) -> None:
        self._messages = list(messages)
        self._taken = set(taken)
        self._watch = watch
        self._is_watched = False
        # Whether the inbox was looked at in this attempt: before that, none is known to be there.
        self._is_known = bool(messages)
        self._changed = asyncio.Event()
        # How many each one who waits has looked at: what comes wakes him a moment later.
        self._seen: dict[object, int] = {}

    @property
    def seen(self) -> int:
        return min(self._seen.values(), default=self.count)

    @property
    def count(self) -> int:
        return len(self._messages)

    def __getitem__(self, number: int) -> Message:
        return self._messages[number - 1]

    def add(self, messages: Sequence[Message]) -> None:
        """Take what a look has found, if anything; what is known already is left out."""
        self._is_known = True
        self._messages += [message for message in messages if message.number > self.count]
        self._changed.set()
        self._changed = asyncio.Event()

    def has_come(self, fits: Callable[[Message], bool]) -> bool:
        """Tell whether a message that fits is known to be there, whoever has got it."""
        return any(map(fits, self._messages))

    async def take(self, fits: Callable[[Message], bool], until: Callable[[], float | None]) -> Message:
        """Return the first message that fits and that nobody has got, and let nobody else have it.

        Args:
            until: gives how many seconds the wait may still last; None: for ever.
        Raises:
            TimeoutError: none came in time.
        """
        looked_at = 0
        while True:
            # Each message once: thousands may wait, each for another one.
            for message in self._messages[looked_at:]:
                if message.number not in self._taken and fits(message):
                    self._taken.add(message.number)
                    return message
            looked_at = self.count
            await self._wait(until())

    async def after(self, number: int) -> Message:
        """Return the first message behind `number`, whoever has got it."""
        while True:
            for message in self._messages[number:]:
                if message.type != CHILD_ENDED:
                    return message
            number = self.count
            await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        if not self._is_watched:
            self._is_watched = True
            self._watch()
        changed, me = self._changed, object()
        self._seen[me] = self.count
        try:
            async with asyncio.timeout(seconds if self._is_known else None):
                await changed.wait()
        finally:
            del self._seen[me]
