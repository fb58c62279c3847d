"""The first API key: without one, a control plane that demands keys serves nobody, and should say so."""

import asyncio

from tailplane.broker.api_keys import ApiKeys, NewKey
from tailplane.control_plane.settings import Settings
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import StoreUnavailable, TailplaneError
from tailplane.protocol.ids import DEFAULT_TENANT
from tailplane.protocol.scopes import Scope

# Seconds between two tries while Redis is away.
_PAUSE = 0.25


class NoKeys(TailplaneError):
    """Requests need an API key, and there is none."""

    code = "no_keys"
    title = "There is no API key"


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
    if settings.admin_key is not None:
        new = NewKey(tenant=DEFAULT_TENANT, name="TAILPLANE_ADMIN_KEY", scopes=frozenset({Scope.ADMIN}))
        await keys.put(new, ApiKey.parse(settings.admin_key.get_secret_value()))
    if settings.demands_keys and not await keys.any_is_live():
        raise NoKeys(
            f"this control plane listens on {settings.host}, where requests need an API key, and none is good",
            hint="`tailplane keys create --direct --name NAME --scopes admin` makes one, or TAILPLANE_ADMIN_KEY names "
            "one; TAILPLANE_AUTH=none lets everybody do everything",
        )
