"""The API keys that this control plane has seen lately, so that a request need not ask Redis who makes it.

What is known is looked up again every `REFRESH`: a key that was revoked or changed is noticed after that time at the
latest, while Redis answers. While it does not, what was known is good for `TRUSTED` more.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tailplane.broker import Outage
from tailplane.broker.api_keys import ApiKeys, KeyRecord
from tailplane.control_plane.periodic import repeat
from tailplane.protocol.ids import KeyId

REFRESH = timedelta(seconds=1)
# Seconds.
TRUSTED = 10.0
# How long a key is kept known that nobody uses; and how many there are at the most: the ones used last.
IDLE = 60.0
MOST = 10_000


@dataclass(slots=True)
class _Known:
    record: KeyRecord | None
    looked_at: float
    used_at: float


class KnownKeys:
    """Knows keys, for as long as it runs.

    Attributes:
        outage: whether Redis can't be asked.
    """

    def __init__(self, keys: ApiKeys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[KeyId, _Known] = OrderedDict()
        self.outage = Outage("looking after API keys")

    async def run(self) -> None:
        """Look known keys up again until cancelled; Redis may come and go."""
        await repeat(self.refresh, REFRESH, self.outage)

    async def find(self, key_id: KeyId) -> KeyRecord | None:
        """Return what is kept of a key, as of a moment ago; None where nothing is.

        Raises:
            StoreUnavailable: it is not known, and Redis does not answer.
        """
        now, known = self._clock(), self._known.get(key_id)
        if known is not None and now - known.looked_at <= TRUSTED:
            known.used_at = now
            return known.record
        (record,) = await self._keys.read_many([key_id])
        # What nobody has keys of is not kept: whoever draws ids at random would push out the good ones.
        if record is not None:
            self._known[key_id] = _Known(record, now, now)
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        else:
            self._known.pop(key_id, None)
        return record

    async def refresh(self) -> None:
        """Look all known keys up again.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        now = self._clock()
        for key_id in [key_id for key_id, known in self._known.items() if now - known.used_at > IDLE]:
            del self._known[key_id]
        wanted = list(self._known)
        for key_id, record in zip(wanted, await self._keys.read_many(wanted), strict=True):
            if (known := self._known.get(key_id)) is not None:
                known.record, known.looked_at = record, now
