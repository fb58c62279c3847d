"""API keys: who may come in. Lives on the queue's server; control planes, and operators at the command line, use it.

Of a secret only its digest is kept. A key that was rotated may be used with the secret before, too, for as long as the
rotation says. A revoked key is kept for good: who finds it in an environment must not bring it back to life.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from tailplane.broker.keys import Keys
from tailplane.broker.records import parse_flat
from tailplane.broker.store import Command
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import KeyNotFound
from tailplane.protocol.ids import KeyId, check_tenant, new_key_id
from tailplane.protocol.scopes import Scope

# Bytes with which a key signs stream tokens.
_SIGNING = 32


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of an API key. Times are seconds since the epoch.

    Attributes:
        tenant: what it belongs to, and all that is done with it.
        expires_at: when it ends by itself; None: never.
        revoked_at: since when it is good for nothing; None: it is good.
        digest: of its secret.
        previous: the digest of the secret before, which is good until `previous_until`; None: none is.
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
    previous: bytes | None = field(default=None, repr=False)
    previous_until: float = 0.0
    signing: bytes = field(default=b"", repr=False)
    submits_per_second: float | None = None
    max_readers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What an API key is to be; see `KeyRecord`."""

    tenant: str
    name: str
    scopes: frozenset[Scope]
    expires_in: timedelta | None = None
    submits_per_second: float | None = None
    max_readers: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The API keys of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def create(self, new: NewKey) -> tuple[KeyRecord, ApiKey]:
        """Create a key; return what is kept of it, and the key itself, which nobody can tell again."""
        key = ApiKey.draw(new_key_id())
        return await self.put(new, key), key

    async def put(self, new: NewKey, key: ApiKey) -> KeyRecord:
        """Keep a key that was drawn elsewhere; one that is known already stays as it is, also if it was revoked."""
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
        # Indexed first: one of which nothing is kept is not listed, one that is not listed could not be revoked.
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
        if not key_ids:
            return []
        rows = await self.wire.call([("HGETALL", self.keys.api_key(key_id)) for key_id in key_ids])
        raise_refusals(rows)
        return [_parse(key_id, parse_flat(row)) for key_id, row in zip(key_ids, rows, strict=True)]

    async def page(self, tenant: str, after: KeyId | None, limit: int) -> list[KeyRecord]:
        """Return keys of a tenant, the oldest first, that are newer than `after`; revoked ones, too."""
        first = f"({tenant}/{after}" if after else f"[{check_tenant(tenant)}/"
        rows = await self.wire.run("ZRANGEBYLEX", self.keys.api_keys, first, f"({tenant}0", "LIMIT", 0, limit)
        found = await self.read_many([KeyId(row.decode().rpartition("/")[2]) for row in rows])
        return [record for record in found if record is not None]

    async def are_there(self) -> bool:
        """Return whether the deployment has any key."""
        return bool(await self.wire.run("EXISTS", self.keys.api_keys))

    async def rotate(self, record: KeyRecord, grace: timedelta) -> ApiKey:
        """Give a key a new secret, and return it; stream tokens that it has signed stay good.

        Args:
            grace: for how long the secret before is good, too.
        """
        key = ApiKey.draw(record.key_id)
        until = repr(time.time() + grace.total_seconds())
        where = self.keys.api_key(record.key_id)
        await self.wire.run("HSET", where, "digest", key.digest, "previous", record.digest, "previous_until", until)
        return key

    async def revoke(self, key_id: KeyId) -> KeyRecord:
        """Let a key, and the stream tokens that it has signed, be good for nothing from now on."""
        await self.wire.run("HSETNX", self.keys.api_key(key_id), "revoked_at", repr(time.time()))
        return await self.read(key_id)

    async def _all_or_nothing(self, *commands: Command) -> None:
        replies = await self.wire.call([("MULTI",), *commands, ("EXEC",)])
        raise_refusals(replies)
        raise_refusals(replies[-1])


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
        scopes=frozenset(Scope(each) for each in row["scopes"].decode().split(",") if each),
        created_at=float(row["created_at"]),
        expires_at=number("expires_at"),
        revoked_at=number("revoked_at"),
        digest=row["digest"],
        previous=row.get("previous"),
        previous_until=number("previous_until") or 0.0,
        signing=row["signing"],
        submits_per_second=number("submits_per_second"),
        max_readers=None if readers is None else int(readers),
    )
