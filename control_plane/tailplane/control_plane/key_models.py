"""What an API key is created with, and what is answered of one. Shapes: PROTOCOL.md 2. No I/O."""

import time
from datetime import timedelta
from typing import Annotated, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, with_config
from typing_extensions import TypedDict

from tailplane.broker.api_keys import KeyRecord, NewKey
from tailplane.broker.tenants import FASTEST, SLOWEST
from tailplane.control_plane import examples
from tailplane.control_plane.access import Caller
from tailplane.control_plane.models import Body
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.scopes import Scope

# A working day to roll a secret out.
GRACE_MS = int(timedelta(hours=24).total_seconds() * 1000)
_MOST_GRACE_MS = int(timedelta(days=7).total_seconds() * 1000)
_LEAST_LIFE_MS = 1000
_MOST_LIFE_MS = int(timedelta(days=3650).total_seconds() * 1000)

# Names are printed, and logged.
KeyName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class NewApiKey(Body):
    """What an API key is to be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "billing", "scopes": ["submit", "read"]}]})

    name: KeyName = Field(description="What people tell it by.")
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        min_length=1, max_length=len(Scope), description="What it lets its holder do; `admin` is all of them."
    )
    expires_in_ms: int | None = Field(
        None, ge=_LEAST_LIFE_MS, le=_MOST_LIFE_MS, description="When it ends by itself; null: never."
    )
    submits_per_second: float | None = Field(
        None, ge=SLOWEST, le=FASTEST, description="How many tasks it may submit; null: as its tenant."
    )
    max_readers: int | None = Field(
        None, ge=1, le=1_000_000, description="How many streams it may read at once; null: as its tenant."
    )

    def of(self, tenant: str) -> NewKey:
        """Return it as the store takes it."""
        return NewKey(
            tenant=tenant,
            name=self.name,
            scopes=frozenset(self.scopes),
            expires_in=None if self.expires_in_ms is None else timedelta(milliseconds=self.expires_in_ms),
            submits_per_second=self.submits_per_second,
            max_readers=self.max_readers,
        )


class Rotation(Body):
    """How an API key gets another secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_ms": 3600000}]})

    grace_ms: int = Field(
        GRACE_MS,
        ge=0,
        le=_MOST_GRACE_MS,
        description="How long the secrets before are good, too. 0: not at all, as for one that has leaked.",
    )

    @property
    def grace(self) -> timedelta:
        """How long the secrets before are good, too."""
        return timedelta(milliseconds=self.grace_ms)


@with_config(ConfigDict(json_schema_extra={"examples": [examples.API_KEY]}))
class ApiKeyInfo(TypedDict):
    """An API key, without its secret. Times are seconds since the epoch."""

    key_id: str
    tenant: str
    name: str
    scopes: list[str]
    created_at: float
    expires_at: NotRequired[Annotated[float, Field(description="When it ends by itself; absent: never.")]]
    revoked_at: NotRequired[Annotated[float, Field(description="Since when it is good for nothing.")]]
    previous_until: NotRequired[Annotated[float, Field(description="Until when an earlier secret is good, too.")]]
    submits_per_second: NotRequired[float]
    max_readers: NotRequired[int]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.API_KEY | {"key": examples.API_KEY_TEXT}]}))
class ApiKeyWithText(ApiKeyInfo):
    """An API key with what its holder sends. It is told this once."""

    key: str


class ApiKeyPage(TypedDict):
    """A page of API keys, the oldest first."""

    keys: list[ApiKeyInfo]
    next_page: Annotated[str | None, Field(description="The `page` that goes on from here; null at the end.")]


class Whoami(TypedDict):
    """Who the caller is."""

    tenant: str
    scopes: Annotated[list[str], Field(description="All that it may do, with the scopes that others include.")]
    key_id: NotRequired[Annotated[str, Field(description="Absent: nobody signs in here.")]]
    name: NotRequired[str]
    expires_at: NotRequired[Annotated[float, Field(description="When the key ends by itself; absent: never.")]]
    submits_per_second: NotRequired[float]
    max_readers: NotRequired[int]


def key_form(record: KeyRecord) -> ApiKeyInfo:
    """Return an API key's form."""
    form = ApiKeyInfo(
        key_id=record.key_id,
        tenant=record.tenant,
        name=record.name,
        scopes=sorted(record.scopes),
        created_at=record.created_at,
    )
    if record.expires_at is not None:
        form["expires_at"] = record.expires_at
    if record.revoked_at is not None:
        form["revoked_at"] = record.revoked_at
    until = max((old.until for old in record.previous), default=0.0)
    if until > time.time():
        form["previous_until"] = until
    _say_limits(form, record)
    return form


def key_form_with_text(record: KeyRecord, key: ApiKey) -> ApiKeyWithText:
    """Return an API key's form, with what its holder sends."""
    return ApiKeyWithText(**key_form(record), key=key.text)


def whoami_form(caller: Caller, record: KeyRecord | None) -> Whoami:
    """Return who a caller is; `record` is of its key, None where nobody signs in."""
    form = Whoami(tenant=caller.tenant, scopes=sorted(caller.scopes))
    if record is not None:
        form["key_id"], form["name"] = record.key_id, record.name
        if record.expires_at is not None:
            form["expires_at"] = record.expires_at
        _say_limits(form, record)
    return form


def _say_limits(form: ApiKeyInfo | Whoami, record: KeyRecord) -> None:
    if record.submits_per_second is not None:
        form["submits_per_second"] = record.submits_per_second
    if record.max_readers is not None:
        form["max_readers"] = record.max_readers
