"""The API keys that this control plane has seen lately, so that a request need not ask Redis who makes it.

What is known is looked up again every `REFRESH`: a key that was revoked or changed is noticed after that time at the
latest, while Redis answers. While it does not, what was known is good for `TRUSTED` more.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

from tailplane.broker import Outage
from tailplane.broker.api_keys import ApiKeys, KeyRecord
from tailplane.protocol.ids import KeyId

REFRESH = timedelta(seconds=1)
# Seconds.
TRUSTED = 10.0
# How long a key is kept known that nobody uses; and how many there are at the most: the ones used last.
IDLE = 60.0
MOST = 10_000


@dataclass(slots=True)
class _Known:
    record: KeyRecord
    looked_at: float
    used_at: float


class KnownKeys:
    """Knows keys, for as long as they are looked up again.

    Attributes:
        version: grows with whatever is learned.
        outage: whether Redis can't be asked.
    """

    def __init__(self, keys: ApiKeys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[KeyId, _Known] = OrderedDict()
        self.version = 0
        self.outage = Outage("looking after API keys")

    async def find(self, key_id: KeyId) -> KeyRecord | None:
        """Return what is kept of a key, as of a moment ago; None where nothing is.

        Raises:
            StoreUnavailable: it is not known, and Redis does not answer.
        """
        now, known = self._clock(), self._known.get(key_id)
        if known is not None and now - known.looked_at <= TRUSTED:
            known.used_at = now
            self._known.move_to_end(key_id)
            return known.record
        return await self.look(key_id)

    async def look(self, key_id: KeyId) -> KeyRecord | None:
        """Return what is kept of a key, as of now; None where nothing is.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        now = self._clock()
        (record,) = await self._keys.read_many([key_id])
        # What nobody has keys of is not kept: whoever draws ids at random would push out the good ones.
        if record is not None:
            self.version += 1
            self._known[key_id] = _Known(record, now, now)
            self._known.move_to_end(key_id)
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        elif self._known.pop(key_id, None) is not None:
            self.version += 1
        return record

    def latest(self, key_id: KeyId) -> tuple[bool, KeyRecord | None]:
        """Return whether a key is known, and what was kept of it when it was looked up last."""
        known = self._known.get(key_id)
        return known is not None, None if known is None else known.record

    async def refresh(self, in_use: Collection[KeyId] = ()) -> None:
        """Look all known keys up again.

        Args:
            in_use: those that have streams open: they stay known, and are, if they were not.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        now, in_use = self._clock(), frozenset(in_use)
        for key_id in in_use:
            if (known := self._known.get(key_id)) is not None:
                known.used_at = now
        for key_id in [key_id for key_id, known in self._known.items() if now - known.used_at > IDLE]:
            del self._known[key_id]
        wanted = list(dict.fromkeys((*self._known, *in_use)))
        for key_id, record in zip(wanted, await self._keys.read_many(wanted), strict=True):
            known = self._known.get(key_id)
            if record is None:
                self._known.pop(key_id, None)
            # One that was found by a request meanwhile is newer than this.
            elif known is not None and known.looked_at <= now:
                known.record, known.looked_at = record, now
            elif key_id in in_use:
                self._known[key_id] = _Known(record, now, now)
        self.version += 1
