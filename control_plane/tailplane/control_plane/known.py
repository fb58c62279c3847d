"""Copies of what lives in Redis, of a moment ago, so that a request need not ask for it.

What was asked for is looked up again in each round for as long as anybody asks. A change is noticed in the next round,
while Redis answers. While it does not, what was known is good for `TRUSTED` more.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# Between two rounds, of what is copied here and in other parts that keep up with Redis.
REFRESH = timedelta(seconds=1)
# Seconds.
TRUSTED = 10.0
# How long a copy is kept that nobody uses; and how many there are at the most: the ones used last.
IDLE = 60.0
MOST = 10_000


@dataclass(slots=True)
class _Copy(Generic[V]):
    value: V
    looked_at: float
    used_at: float


class Known(Generic[K, V]):
    """Knows values by key, for as long as they are looked up again.

    Args:
        read: returns what Redis has of these keys; those of which it has nothing are left out.
    """

    def __init__(
        self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._copies: OrderedDict[K, _Copy[V]] = OrderedDict()

    async def find(self, key: K) -> V | None:
        """Return what there is, as of a moment ago; None where nothing is.

        Raises:
            StoreUnavailable: it is not known, and Redis does not answer.
        """
        now, copy = self._clock(), self._copies.get(key)
        if copy is None or now - copy.looked_at > TRUSTED:
            return await self.look(key)
        copy.used_at = now
        self._copies.move_to_end(key)
        return copy.value

    async def look(self, key: K) -> V | None:
        """Return what there is, as of now; None where nothing is.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        now = self._clock()
        self._take(key, (await self._read([key])).get(key), now)
        copy = self._copies.get(key)
        if copy is None:
            return None
        copy.used_at = max(copy.used_at, now)
        self._copies.move_to_end(key)
        while len(self._copies) > MOST:
            self._copies.popitem(last=False)
        return copy.value

    def latest(self, key: K) -> V | None:
        """Return what was found at the last look, however long ago; None where nothing is known."""
        copy = self._copies.get(key)
        return None if copy is None else copy.value

    async def refresh(self, in_use: Collection[K] = ()) -> None:
        """Look all up again that is known.

        Args:
            in_use: what stays known also where nobody asks for it, and is, if it was not.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        now, in_use = self._clock(), frozenset(in_use)
        for key, copy in list(self._copies.items()):
            if key in in_use:
                copy.used_at = now
            elif now - copy.used_at > IDLE:
                del self._copies[key]
        wanted = list(dict.fromkeys((*self._copies, *in_use)))
        found = await self._read(wanted)
        for key in wanted:
            # What was forgotten meanwhile stays so.
            if key in in_use or key in self._copies:
                self._take(key, found.get(key), now)

    def _take(self, key: K, value: V | None, looked_at: float) -> None:
        """Take what a look has found, unless there is a copy by a look that began later."""
        copy = self._copies.get(key)
        if copy is None:
            # What there is not is not kept: whoever draws keys at random would push out the good ones.
            if value is not None:
                self._copies[key] = _Copy(value, looked_at, looked_at)
        elif copy.looked_at <= looked_at:
            if value is None:
                del self._copies[key]
            else:
                copy.value, copy.looked_at = value, looked_at
