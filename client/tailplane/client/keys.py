"""API keys, as their admins see them: those of the tenant whose key signs the requests.

What is told once is in `NewApiKey.key`, which no repr shows.
"""

import secrets
from collections.abc import Collection

from pydantic import Field

from tailplane.client.durations import Duration, seconds
from tailplane.client.link import Link
from tailplane.client.models import Answer, parse
from tailplane.client.transport import path
from tailplane.protocol.errors import KeyMade
from tailplane.protocol.scopes import Scope


class ApiKeyInfo(Answer):
    """An API key, without its secret. Times are seconds since the epoch.

    Attributes:
        scopes: what it lets its holder do; a newer control plane may know more than `Scope`.
        expires_at: when it ends by itself; None: never.
        revoked_at: since when it is good for nothing; None: it was not revoked.
        previous_until: until when an earlier secret is good, too; None: none is.
        submits_per_second, max_readers: its own limits, beside its tenant's; None: none.
    """

    key_id: str
    tenant: str
    name: str
    scopes: list[str]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    previous_until: float | None = None
    submits_per_second: float | None = None
    max_readers: int | None = None


class NewApiKey(ApiKeyInfo):
    """An API key with `key`, what its holder sends: nobody can tell it again."""

    key: str = Field(repr=False)


class KeyPage(Answer):
    """One page of API keys, the oldest first."""

    keys: list[ApiKeyInfo]
    next_page: str | None = None


class Whoami(Answer):
    """Whom the control plane takes a client for.

    Attributes:
        scopes: all that it may do, with the scopes that others include.
        key_id, name: of the key that signs; None: nobody signs in there.
        expires_at: when that key ends by itself; None: never.
    """

    tenant: str
    scopes: list[str]
    key_id: str | None = None
    name: str | None = None
    expires_at: float | None = None
    submits_per_second: float | None = None
    max_readers: int | None = None


async def create(
    link: Link,
    name: str,
    scopes: Collection[Scope | str],
    expires_in: Duration | None,
    submits_per_second: float | None,
    max_readers: int | None,
) -> NewApiKey:
    """Create a key; see `Client.create_key`."""
    body = {
        "name": name,
        "scopes": sorted(str(scope) for scope in scopes),
        "expires_in_ms": None if expires_in is None else round(seconds(expires_in) * 1000),
        "submits_per_second": submits_per_second,
        "max_readers": max_readers,
    }
    said = {name: value for name, value in body.items() if value is not None}
    try:
        answer = await link.transport.request("POST", path("keys"), body=said, key=secrets.token_hex(16))
    except KeyMade as made:
        # The answer was lost that told the secret, so nobody has it: there may be another one.
        return await rotate(link, str(made.facts["key_id"]), 0)
    return parse(NewApiKey, answer.value)


async def rotate(link: Link, key_id: str, grace: Duration) -> NewApiKey:
    """Give a key a new secret; see `Client.rotate_key`."""
    body = {"grace_ms": round(seconds(grace) * 1000)}
    answer = await link.transport.request("POST", path("keys", key_id, "rotate"), body=body)
    return parse(NewApiKey, answer.value)
