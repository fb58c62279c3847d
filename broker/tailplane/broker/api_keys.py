"""API keys: who may come in. Lives on the queue's server; control planes, and operators at the command line, use it.

Of a secret only its digest is kept. A key that was rotated may be used with the secrets before, too, for as long as the
rotation says. A revoked key is kept: who finds it in an environment must not bring it back to life. Only where a tenant
has thousands of them those that ended first are forgotten.
"""

import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple

from tailplane.broker import scripts
from tailplane.broker.keys import Keys
from tailplane.broker.queue import REQUEST_MEMORY, Request
from tailplane.broker.records import parse_flat
from tailplane.broker.store import Command
from tailplane.broker.tenants import Tenants
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol import codec
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import (
    IdempotencyConflict,
    KeyEnded,
    KeyMade,
    KeyNotFound,
    StoreUnavailable,
    TooManyKeys,
)
from tailplane.protocol.ids import KeyId, check_tenant, new_key_id
from tailplane.protocol.scopes import Scope, spread

# How many keys of a tenant may be good at once; and how many are kept with those that were: the ones that ended first
# are forgotten first.
MOST_LIVE = 1_000
MOST_KEPT = 10_000
# Earlier secrets of a key that are good at once.
MOST_PREVIOUS = 4

# Bytes with which a key signs stream tokens.
_SIGNING = 32
# Keys that are read at once.
_BATCH = 500
# How often a rotation is tried while others rotate the same key.
_TRIES = 5


class OldSecret(NamedTuple):
    """The digest of a secret that a rotation has replaced, and until when it is good, in seconds since the epoch."""

    digest: bytes
    until: float


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of an API key. Times are seconds since the epoch.

    Attributes:
        tenant: what it belongs to, and all that is done with it.
        expires_at: when it ends by itself; None: never.
        revoked_at: since when it is good for nothing; None: it is good.
        digest: of its secret.
        previous: the secrets before, as far as they were still good at the last rotation.
        signing: what it signs stream tokens with.
        submits_per_second, max_readers: its own limits, beside its tenant's; None: none.
    """

    key_id: KeyId
    tenant: str
    name: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    digest: bytes = field(default=b"", repr=False)
    previous: tuple[OldSecret, ...] = field(default=(), repr=False)
    signing: bytes = field(default=b"", repr=False)
    submits_per_second: float | None = None
    max_readers: int | None = None

    @property
    def ended_at(self) -> float | None:
        """When it was revoked, or expires by itself, whichever is first; None: neither."""
        ends = [end for end in (self.expires_at, self.revoked_at) if end is not None]
        return min(ends, default=None)

    def is_live(self, now: float) -> bool:
        """Return whether it is good, at `now` in seconds since the epoch."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def digests(self, now: float) -> list[bytes]:
        """Return the digests of all secrets with which it may be used at `now`."""
        return [self.digest, *(old.digest for old in self.previous if now < old.until)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What an API key is to be; see `KeyRecord`."""

    tenant: str
    name: str
    scopes: frozenset[Scope]
    expires_in: timedelta | None = None
    submits_per_second: float | None = None
    max_readers: int | None = None


class KeyPage(NamedTuple):
    """Some of a tenant's keys, and the one after which the rest follows; None: there is no more."""

    keys: list[KeyRecord]
    next: KeyId | None


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The API keys of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def create(self, new: NewKey, request: Request | None = None) -> tuple[KeyRecord, ApiKey]:
        """Create a key; return what is kept of it, and the key itself, which nobody can tell again.

        Its tenant is noted with it. Of several at the same time, each may find room for the last one.

        Raises:
            KeyMade: this request has made a key before.
            IdempotencyConflict: the idempotency key made something else.
            TooManyKeys: as many keys of the tenant are good as may be.
        """
        key_id = await self._id_for(check_tenant(new.tenant), request)
        if await self._is_kept(key_id):
            raise _made(key_id)
        await self._make_room(new.tenant)
        key = ApiKey.draw(key_id)
        record = await self.put(new, key)
        if record.digest != key.digest:
            # The same request, at the same time: that one was told the secret.
            raise _made(key_id)
        return record, key

    async def put(self, new: NewKey, key: ApiKey) -> KeyRecord:
        """Keep a key that was drawn elsewhere; one that is known already stays as it is, also if it was revoked."""
        await Tenants(self.wire, self.keys).note(new.tenant)
        now, where = time.time(), self.keys.api_key(key.key_id)
        expires_at = None if new.expires_in is None else now + new.expires_in.total_seconds()
        said: dict[str, str | bytes] = {
            "tenant": check_tenant(new.tenant),
            "name": new.name,
            "scopes": ",".join(sorted(new.scopes)),
            "created_at": repr(now),
            "expires_at": _text(expires_at),
            "digest": key.digest,
            "signing": os.urandom(_SIGNING),
            "submits_per_second": _text(new.submits_per_second),
            "max_readers": _text(new.max_readers),
        }
        (known,) = await self.read_many([key.key_id])
        if known is not None:
            # It may be another tenant's: the index has it there.
            return known
        await self._all_or_nothing(
            ("ZADD", self.keys.api_keys, 0, f"{new.tenant}/{key.key_id}"),
            *(("HSETNX", where, name, value) for name, value in said.items()),
        )
        return await self.read(key.key_id)

    async def read(self, key_id: KeyId) -> KeyRecord:
        """Return what is kept of a key.

        Raises:
            KeyNotFound: nothing is.
        """
        (found,) = await self.read_many([key_id])
        if found is None:
            raise KeyNotFound(f"there is no API key {key_id}", key_id=key_id)
        return found

    async def read_many(self, key_ids: Sequence[KeyId]) -> list[KeyRecord | None]:
        """Return what is kept of each of these keys; None where nothing is."""
        found: list[KeyRecord | None] = []
        for at in range(0, len(key_ids), _BATCH):
            batch = key_ids[at : at + _BATCH]
            rows = await self.wire.call([("HGETALL", self.keys.api_key(key_id)) for key_id in batch])
            raise_refusals(rows)
            found += [_parse(key_id, parse_flat(row)) for key_id, row in zip(batch, rows, strict=True)]
        return found

    async def page(self, tenant: str, after: KeyId | None, limit: int) -> KeyPage:
        """Return keys of a tenant, the oldest first, that are newer than `after`; revoked and expired ones, too."""
        first = f"({tenant}/{after}" if after else f"[{check_tenant(tenant)}/"
        ids = await self._ids(first, f"({tenant}0", limit + 1)
        found = await self.read_many(ids[:limit])
        following = ids[limit - 1] if len(ids) > limit else None
        return KeyPage([record for record in found if record is not None], following)

    async def any_is_live(self) -> bool:
        """Return whether any key of the deployment is good."""
        now, first = time.time(), "-"
        while rows := await self._rows(first, "+", _BATCH):
            if any(record and record.is_live(now) for record in await self.read_many(_ids_of(rows))):
                return True
            first = f"({rows[-1].decode()}"
        return False

    async def has_other_admin(self, record: KeyRecord) -> bool:
        """Return whether another key of the tenant is good, and may manage keys."""
        now = time.time()
        async for other in self._all_of(record.tenant):
            if other.key_id != record.key_id and Scope.ADMIN in spread(other.scopes) and other.is_live(now):
                return True
        return False

    async def rotate(self, key_id: KeyId, grace: timedelta) -> tuple[KeyRecord, ApiKey]:
        """Give a key a new secret, and return it; stream tokens that it has signed stay good.

        Done again, because an answer was lost, it takes nothing from those who use the secret before: that one is good
        as long as the first rotation said, if the second does not say less.

        Args:
            grace: for how long the secrets before are good at the most. Only the last few are in any case.
        Raises:
            KeyNotFound: nothing is kept of the key.
            KeyEnded: it was revoked, or has expired.
        """
        for _ in range(_TRIES):
            record, now = await self.read(key_id), time.time()
            if not record.is_live(now):
                raise KeyEnded(f"the API key {key_id} was revoked or has expired: create another one", key_id=key_id)
            key, until = ApiKey.draw(key_id), now + grace.total_seconds()
            before = [OldSecret(old.digest, min(old.until, until)) for old in record.previous]
            before.append(OldSecret(record.digest, until))
            previous = tuple(old for old in before if now < old.until)[-MOST_PREVIOUS:]
            if await scripts.ROTATE_KEY.run(
                self.wire, [self.keys.api_key(key_id)], [record.digest, key.digest, codec.pack([*map(list, previous)])]
            ):
                return replace(record, digest=key.digest, previous=previous), key
        raise StoreUnavailable("others rotate this key at the same time")

    async def revoke(self, key_id: KeyId) -> KeyRecord:
        """Let a key, and the stream tokens that it has signed, be good for nothing from now on; again changes nothing.

        Raises:
            KeyNotFound: nothing is kept of it.
        """
        if not await scripts.REVOKE_KEY.run(self.wire, [self.keys.api_key(key_id)], [repr(time.time())]):
            raise KeyNotFound(f"there is no API key {key_id}", key_id=key_id)
        return await self.read(key_id)

    async def _id_for(self, tenant: str, request: Request | None) -> KeyId:
        """Return the id of the key that a request makes: the same one whenever it comes."""
        key_id = new_key_id()
        if request is None:
            return key_id
        memory = codec.pack([key_id, request.content])
        kept_ms = int(REQUEST_MEMORY.total_seconds() * 1000)
        where = self.keys.request(tenant, request.key)
        known = await self.wire.run("SET", where, memory, "PX", kept_ms, "NX", "GET")
        if not known:
            return key_id
        made, content = codec.unpack(known)
        if content != request.content:
            raise IdempotencyConflict("this idempotency key came before, with another request")
        return KeyId(made)

    async def _is_kept(self, key_id: KeyId) -> bool:
        (known,) = await self.read_many([key_id])
        return known is not None

    async def _make_room(self, tenant: str) -> None:
        count = await self.wire.run("ZLEXCOUNT", self.keys.api_keys, f"[{tenant}/", f"({tenant}0")
        if count < MOST_LIVE:
            return
        now, live, ended = time.time(), 0, list[KeyRecord]()
        async for record in self._all_of(tenant):
            if record.is_live(now):
                live += 1
            else:
                ended.append(record)
        if live >= MOST_LIVE:
            raise TooManyKeys(f"{live:,} API keys of the tenant are good: revoke some", limit=MOST_LIVE)
        if count >= MOST_KEPT:
            ended.sort(key=lambda record: record.ended_at or 0.0)
            await self._forget(tenant, (record.key_id for record in ended[:_BATCH]))

    async def _forget(self, tenant: str, key_ids: Iterable[KeyId]) -> None:
        for key_id in key_ids:
            await self._all_or_nothing(
                ("ZREM", self.keys.api_keys, f"{tenant}/{key_id}"), ("DEL", self.keys.api_key(key_id))
            )

    async def _all_of(self, tenant: str) -> AsyncIterator[KeyRecord]:
        after: KeyId | None = None
        while True:
            page = await self.page(tenant, after, _BATCH)
            for record in page.keys:
                yield record
            if page.next is None:
                return
            after = page.next

    async def _ids(self, first: str, last: str, limit: int) -> list[KeyId]:
        return _ids_of(await self._rows(first, last, limit))

    async def _rows(self, first: str, last: str, limit: int) -> list[bytes]:
        rows: list[bytes] = await self.wire.run("ZRANGEBYLEX", self.keys.api_keys, first, last, "LIMIT", 0, limit)
        return rows

    async def _all_or_nothing(self, *commands: Command) -> None:
        replies = await self.wire.call([("MULTI",), *commands, ("EXEC",)])
        raise_refusals(replies)
        raise_refusals(replies[-1])


def _made(key_id: KeyId) -> KeyMade:
    return KeyMade(
        f"this request has made the API key {key_id}, whose secret can't be told again",
        key_id=key_id,
        hint="rotate that key to be told a new secret, or revoke it and create another one with a new Idempotency-Key",
    )


def _ids_of(rows: Sequence[bytes]) -> list[KeyId]:
    return [KeyId(row.decode().rpartition("/")[2]) for row in rows]


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)


def _parse(key_id: KeyId, row: dict[str, bytes]) -> KeyRecord | None:
    if "digest" not in row:
        return None

    def number(name: str) -> float | None:
        said = row.get(name)
        return float(said) if said else None

    readers = number("max_readers")
    return KeyRecord(
        key_id=key_id,
        tenant=row["tenant"].decode(),
        name=row["name"].decode(),
        # A newer program may have given more than this one knows.
        scopes=frozenset(scope for scope in Scope if scope in row["scopes"].decode().split(",")),
        created_at=float(row["created_at"]),
        expires_at=number("expires_at"),
        revoked_at=number("revoked_at"),
        digest=row["digest"],
        previous=tuple(OldSecret(*old) for old in codec.unpack(row["previous"])) if "previous" in row else (),
        signing=row["signing"],
        submits_per_second=number("submits_per_second"),
        max_readers=None if readers is None else int(readers),
    )
