"""The register of the streams that are open in this control plane, by the credentials with which they were opened.

Who opens a stream enters it, and leaves when it ends. Counts per tenant and per API key come from here; and whoever
finds that a credential has come to its end cuts its streams by it, without looking at any other.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tailplane.control_plane.access import Caller
from tailplane.protocol.ids import KeyId

# Streams that are cut, and credentials that are looked at, before others get a turn of the loop.
_AT_ONCE = 500


class Credential(NamedTuple):
    """What streams were opened with.

    Attributes:
        key_id: the API key, or that which has signed the stream token; None: nobody signs in here.
        token_id: the stream token's; None: it was the key itself.
        expires_at: when the token ends by itself, in seconds since the epoch; None: it is no token.
    """

    key_id: KeyId | None
    token_id: str | None
    expires_at: float | None


class Place:
    """The place of one stream in the register: `leave` it.

    Attributes:
        caller: on whose behalf it was opened.
        is_cut: whether its credential is good no longer: the stream should end.
    """

    __slots__ = ("_leave", "_on_cut", "caller", "is_cut")

    def __init__(self, caller: Caller, leave: "Callable[[Place], None]") -> None:
        self.caller = caller
        self.is_cut = False
        self._leave = leave
        self._on_cut: Callable[[], None] | None = None

    def watch(self, on_cut: Callable[[], None]) -> None:
        """Call `on_cut` once the stream should end."""
        self._on_cut = on_cut

    def cut(self) -> None:
        """Let the stream end, for its credential has."""
        if not self.is_cut:
            self.is_cut = True
            if self._on_cut is not None:
                self._on_cut()

    def leave(self) -> None:
        """Be no open stream any more; a second time does nothing."""
        self._on_cut = None
        self._leave(self)


class OpenStreams:
    """The open streams of one control plane."""

    def __init__(self) -> None:
        self._places: dict[Credential, dict[Place, None]] = {}
        self._by_tenant: Counter[str] = Counter()
        self._by_key: Counter[KeyId] = Counter()

    def enter(self, caller: Caller) -> Place:
        """Enter a stream that a caller opens, before anything is held for it."""
        place = Place(caller, self._leave)
        self._places.setdefault(_credential_of(caller), {})[place] = None
        self._by_tenant[caller.tenant] += 1
        if caller.key_id is not None:
            self._by_key[caller.key_id] += 1
        return place

    def of_tenant(self, tenant: str) -> int:
        """Return how many streams a tenant has open here."""
        return self._by_tenant[tenant]

    def of_key(self, key_id: KeyId) -> int:
        """Return how many streams an API key has open here, with those of its stream tokens."""
        return self._by_key[key_id]

    @property
    def by_tenant(self) -> dict[str, int]:
        """How many streams each tenant has open here. From any thread."""
        return dict(self._by_tenant)

    @property
    def key_ids(self) -> list[KeyId]:
        """The API keys that have streams open here."""
        return list(self._by_key)

    async def cut_ended(self, is_good: Callable[[Credential], bool]) -> int:
        """Cut the streams of those credentials that are good no longer; return how many.

        Args:
            is_good: asked once for each credential, however many streams it has.
        """
        count = 0
        for number, credential in enumerate(list(self._places), 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if credential.key_id is not None and not is_good(credential):
                count += await self._cut(credential)
        return count

    async def _cut(self, credential: Credential) -> int:
        places = [place for place in self._places.get(credential, ()) if not place.is_cut]
        for number, place in enumerate(places, 1):
            place.cut()
            # A few at a time: each has something to send yet, and other streams want to go on.
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return len(places)

    def _leave(self, place: Place) -> None:
        caller = place.caller
        credential = _credential_of(caller)
        places = self._places.get(credential, {})
        if place not in places:
            return
        del places[place]
        if not places:
            del self._places[credential]
        _take_one(self._by_tenant, caller.tenant)
        if caller.key_id is not None:
            _take_one(self._by_key, caller.key_id)


def _credential_of(caller: Caller) -> Credential:
    token = caller.token
    if token is None:
        return Credential(caller.key_id, None, None)
    return Credential(caller.key_id, token.token_id, token.expires_ms / 1000)


def _take_one(counts: Counter[Any], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
