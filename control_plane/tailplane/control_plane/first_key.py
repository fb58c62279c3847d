"""The first API key: without one, a control plane that demands keys serves nobody, and should say so.

The key that the settings name is put into Redis at the start, and again where Redis has lost it. One that was revoked
stays so, and one that was rotated away stays away: while Redis has its record by that, and when it has lost it, by
what this control plane has seen last.
"""

import asyncio

import structlog

from tailplane.broker.api_keys import ApiKeys, KeyRecord, NewKey
from tailplane.control_plane.known_keys import KnownKeys
from tailplane.control_plane.settings import Settings
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import StoreUnavailable, TailplaneError
from tailplane.protocol.ids import DEFAULT_TENANT, KeyId
from tailplane.protocol.scopes import Scope

log = structlog.get_logger(__name__)

# Seconds between two tries while Redis is away.
_PAUSE = 0.25


class NoKeys(TailplaneError):
    """Requests need an API key, and there is none."""

    code = "no_keys"
    title = "There is no API key"


class FirstKey:
    """The key that the settings name, if they name one.

    Attributes:
        key_ids: its id; empty: they name none.
    """

    def __init__(self, keys: ApiKeys, settings: Settings) -> None:
        self._keys = keys
        said = settings.admin_key
        self._key = None if said is None else ApiKey.parse(said.get_secret_value())
        self.key_ids: tuple[KeyId, ...] = () if self._key is None else (self._key.key_id,)
        self._seen: KeyRecord | None = None

    async def put(self) -> None:
        """Make it known; where it is already, nothing changes.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        if self._key is not None:
            new = NewKey(tenant=DEFAULT_TENANT, name="TAILPLANE_ADMIN_KEY", scopes=frozenset({Scope.ADMIN}))
            await self._keys.put(new, self._key)

    async def keep(self, known: KnownKeys) -> None:
        """Put it again if Redis has it no more, and it was good; called when `known` has looked at it.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        if self._key is None:
            return
        if (record := known.latest(self._key.key_id)) is not None:
            self._seen = record
        elif self._seen is not None:
            # Rotated, another secret has taken its place: this one may have leaked.
            if self._seen.revoked_at is None and self._seen.digest == self._key.digest:
                await self.put()
                log.warning("Redis had lost TAILPLANE_ADMIN_KEY, which is put again", key_id=self._key.key_id)
            else:
                self._seen = None
                log.error(
                    "Redis has lost TAILPLANE_ADMIN_KEY, which is not put again: it was revoked or rotated",
                    key_id=self._key.key_id,
                )


async def wait_for_keys(keys: ApiKeys, settings: Settings) -> None:
    """Make the key known that the settings name, and return where requests need none, or there is one.

    Redis may be away: then it waits.

    Raises:
        NoKeys: requests need one, and there is none, or none that is neither revoked nor expired.
    """
    while True:
        try:
            return await _check(keys, settings)
        except StoreUnavailable:
            await asyncio.sleep(_PAUSE)


async def _check(keys: ApiKeys, settings: Settings) -> None:
    await FirstKey(keys, settings).put()
    if settings.demands_keys and not await keys.any_is_live():
        raise NoKeys(
            f"this control plane listens on {settings.host}, where requests need an API key, and none is good",
            hint="`tailplane keys create --direct --name NAME --scopes admin` makes one, or TAILPLANE_ADMIN_KEY names "
            "one; TAILPLANE_AUTH=none lets everybody do everything",
        )
