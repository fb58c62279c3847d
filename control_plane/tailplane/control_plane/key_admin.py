"""What admins do with the API keys of their tenant: create, look at, rotate, revoke. Each change is a line of the log.

Another tenant's keys are not there for them: that is the operator's, who reaches Redis (docs/decisions/0025). Control
planes notice a change after `known.REFRESH`.
"""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from tailplane.broker import Request
from tailplane.broker.api_keys import ApiKeys, KeyPage, KeyRecord, NewKey
from tailplane.control_plane.access import Caller
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import KeyNotFound, LastAdmin
from tailplane.protocol.ids import KeyId
from tailplane.protocol.scopes import Scope, spread

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyAdmin:
    """The API keys, as their admins see them. Every method raises StoreUnavailable when Redis does not answer."""

    keys: ApiKeys

    async def create(self, caller: Caller, new: NewKey, request: Request | None) -> tuple[KeyRecord, ApiKey]:
        """Create a key; return what is kept of it, and the key itself, which nobody can tell again.

        Raises:
            KeyMade, IdempotencyConflict, TooManyKeys: see `ApiKeys.create`.
        """
        record, key = await self.keys.create(new, request)
        _note("API key created", caller, record)
        return record, key

    async def page(self, caller: Caller, *, limit: int, after: KeyId | None) -> KeyPage:
        """Return the tenant's keys, the oldest first, from behind `after` on."""
        return await self.keys.page(caller.tenant, after, limit)

    async def find(self, caller: Caller, key_id: KeyId) -> KeyRecord:
        """Return what is kept of a key of the tenant.

        Raises:
            KeyNotFound: the tenant has no such key.
        """
        record = await self.keys.read(key_id)
        if record.tenant != caller.tenant:
            raise KeyNotFound(f"there is no API key {key_id}", key_id=key_id)
        return record

    async def rotate(self, caller: Caller, key_id: KeyId, grace: timedelta) -> tuple[KeyRecord, ApiKey]:
        """Give a key a new secret, and return it; see `ApiKeys.rotate`.

        Raises:
            KeyNotFound: the tenant has no such key.
            KeyEnded: it was revoked, or has expired.
        """
        await self.find(caller, key_id)
        record, key = await self.keys.rotate(key_id, grace)
        _note("API key rotated", caller, record, grace=str(grace))
        return record, key

    async def revoke(self, caller: Caller, key_id: KeyId) -> None:
        """Let a key be good for nothing from now on, also the caller's own; again changes nothing.

        Raises:
            KeyNotFound: the tenant has no such key.
            LastAdmin: nobody could manage the tenant's keys any more. Of two that revoke each other at the same time
                neither may notice: then it takes the operator.
        """
        record = await self.find(caller, key_id)
        if record.revoked_at is not None:
            return
        if Scope.ADMIN in spread(record.scopes) and not await self.keys.has_other_admin(record):
            raise LastAdmin(
                f"{key_id} is the last API key that may manage the tenant's keys: create another one first",
                key_id=key_id,
                hint="whoever reaches Redis can revoke it all the same: tailplane keys revoke --direct",
            )
        _note("API key revoked", caller, await self.keys.revoke(key_id))


def _note(what: str, caller: Caller, record: KeyRecord, **more: str) -> None:
    log.info(
        what,
        tenant=record.tenant,
        key_id=record.key_id,
        name=record.name,
        scopes=sorted(record.scopes),
        # Where nobody signs in, nobody is known.
        by=caller.key_id or "anybody",
        **more,
    )
