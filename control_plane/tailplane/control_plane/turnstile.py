"""The turnstile: lets a caller open a stream, if its tenant and its API key may read one more.

A limit holds over all control planes. Each tells the others about once a second, by Redis, how many streams it has open
of those tenants and keys that have a limit, and of no others; before it refuses anybody it asks anew. So its own count
is exact, and those of others are of a second ago at the most: of streams that are opened within that second at several
control planes, some may be too many. What is open is never ended by it.
"""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tailplane.broker import Outage
from tailplane.broker.usage import Usage
from tailplane.control_plane.access import Caller
from tailplane.control_plane.known import REFRESH
from tailplane.control_plane.known_keys import KnownKeys
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.open_streams import OpenStreams, Place
from tailplane.control_plane.periodic import repeat
from tailplane.protocol.errors import StoreUnavailable, TooManyReaders
from tailplane.protocol.ids import KeyId

# Seconds for which an answer is good enough to refuse by it: who is refused comes back in a crowd.
_FRESH = 0.1
# Seconds that a refused caller is asked to wait.
_WAIT = (1.0, 2.0)


class _Limit(NamedTuple):
    """How many streams a tenant or an API key may read at once; `of` says which of the two it is."""

    account: str
    of: str
    most: int


class _Others(NamedTuple):
    open: int
    asked_at: float


class Turnstile:
    """Lets streams into one control plane.

    Attributes:
        outage: whether Redis can't be told or asked.
    """

    def __init__(
        self,
        streams: OpenStreams,
        usage: Usage,
        tenants: KnownTenants,
        keys: KnownKeys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._streams = streams
        self._usage = usage
        self._tenants = tenants
        self._keys = keys
        self._clock = clock
        self._me = secrets.token_hex(8)
        # How many the other control planes have, of accounts that have a limit and streams here, or were asked for.
        self._others: dict[str, _Others] = {}
        self._is_closed = False
        self.outage = Outage("counting readers")

    async def run(self) -> None:
        """Tell and ask until cancelled; Redis may come and go."""
        await repeat(self.exchange, REFRESH, self.outage)

    async def enter(self, caller: Caller) -> Place:
        """Enter a stream into the register of those that are open.

        Raises:
            TooManyReaders: the caller has as many open as it may.
            StoreUnavailable: nobody can tell.
        """
        limits = await self._limits_of(caller)
        if unknown := [limit for limit in limits if limit.account not in self._others]:
            await self._ask(unknown)
        if over := self._over(limits):
            try:
                await self._ask(over)
            except StoreUnavailable as error:
                # What was told last holds, as it does between two rounds.
                self.outage.noticed(error)
            # Looked at anew: others may have entered meanwhile. From here on nothing is awaited.
            if over := self._over(limits):
                raise self._refusal(over[0])
        return self._streams.enter(caller)

    def readers(self, account: str) -> int:
        """Return how many streams a tenant or API key has open: here, and, where it has a limit, elsewhere."""
        return self._here(account) + self._others_of(account)

    async def look(self, caller: Caller) -> None:
        """Ask what the other control planes have open of a caller's, where it has a limit.

        Raises:
            StoreUnavailable: nobody can tell.
        """
        await self._ask(await self._limits_of(caller))

    async def _limits_of(self, caller: Caller) -> list[_Limit]:
        found, tenant = [], await self._tenants.find(caller.tenant)
        if tenant.max_readers is not None:
            found.append(_Limit(tenant.tenant, "tenant", tenant.max_readers))
        key = None if caller.key_id is None else await self._keys.find(caller.key_id)
        if key is not None and key.max_readers is not None:
            found.append(_Limit(key.key_id, "key", key.max_readers))
        return found

    async def exchange(self) -> None:
        """Tell the other control planes what is open here, and ask how much is open there.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        here = {name: self._streams.of_tenant(name) for name, each in self._tenants.records.items() if each.max_readers}
        for key_id in self._streams.key_ids:
            key = await self._keys.find(key_id)
            if key is not None and key.max_readers:
                here[key_id] = self._streams.of_key(key_id)
        # Who has none here any more is told of once more, as having none.
        counts = {account: count for account, count in here.items() if count}
        counts |= {account: 0 for account in self._others if account not in counts}
        told = await self._tell(counts)
        now = self._clock()
        self._others = {account: _Others(others, now) for account, others in told.items() if counts[account]}

    async def close(self) -> None:
        """Tell the others that nothing is open here: the readers are asked to go to them.

        Raises:
            StoreUnavailable: Redis does not answer. They find out in some seconds.
        """
        self._is_closed = True
        await self._tell(dict.fromkeys(self._others, 0))

    def _over(self, limits: Sequence[_Limit]) -> list[_Limit]:
        return [limit for limit in limits if self.readers(limit.account) >= limit.most]

    async def _ask(self, limits: Sequence[_Limit]) -> None:
        now = self._clock()
        stale = [limit.account for limit in limits if now - self._asked_at(limit.account) > _FRESH]
        for account, others in (await self._tell({account: self._here(account) for account in stale})).items():
            self._others[account] = _Others(others, now)

    async def _tell(self, counts: dict[str, int]) -> dict[str, int]:
        return await self._usage.tell_readers(self._me, dict.fromkeys(counts, 0) if self._is_closed else counts)

    def _here(self, account: str) -> int:
        # Either is one: no tenant has the id of a key.
        return self._streams.of_tenant(account) + self._streams.of_key(KeyId(account))

    def _others_of(self, account: str) -> int:
        others = self._others.get(account)
        return 0 if others is None else others.open

    def _asked_at(self, account: str) -> float:
        others = self._others.get(account)
        return float("-inf") if others is None else others.asked_at

    def _refusal(self, over: _Limit) -> TooManyReaders:
        readers, whose = self.readers(over.account), "API key" if over.of == "key" else "tenant"
        return TooManyReaders(
            f"the {whose} reads {readers:,} streams, and may read {over.most:,} at once",
            readers=readers,
            limit=over.most,
            of=over.of,
            retry_after=round(random.uniform(*_WAIT), 3),
        )
