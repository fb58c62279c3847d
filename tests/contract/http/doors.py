"""Who comes in: keys and tokens for tests of what they open."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
from fastapi import FastAPI
from pydantic import SecretStr

from tailplane.broker.api_keys import ApiKeys, NewKey
from tailplane.control_plane import Settings
from tailplane.control_plane.doorkeeper import Doorkeeper
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import KeyId, new_key_id
from tailplane.protocol.scopes import Scope

# Of the tenant `default`, with all rights.
ADMIN = ApiKey.draw(new_key_id())


def locked(valkey: EmbeddedServer, **more: Any) -> Settings:
    """Return the settings of a control plane, on a deployment of its own, where everybody signs in."""
    return Settings(
        redis_url=valkey.url,
        prefix=f"test-{uuid.uuid4().hex}",
        keep_alive=timedelta(seconds=0.2),
        auth="keys",
        admin_key=SecretStr(ADMIN.text),
        port=0,
        **more,
    )


def bearer(text: str) -> dict[str, str]:
    """Return the header that presents a credential."""
    return {"Authorization": f"Bearer {text}"}


async def admit_admin(keys: ApiKeys) -> None:
    """Make `ADMIN` known, as the control plane does itself a moment after its start."""
    await keys.put(NewKey(tenant="default", name="", scopes=frozenset({Scope.ADMIN})), ADMIN)


async def make_key(keys: ApiKeys, *scopes: Scope, tenant: str = "default", life: timedelta | None = None) -> ApiKey:
    """Return a new key."""
    _, key = await keys.create(NewKey(tenant=tenant, name="test", scopes=frozenset(scopes), expires_in=life))
    return key


async def token_for(http: httpx2.AsyncClient, where: str, **body: Any) -> Any:
    """Return a token for `tasks/<id>` or `sessions/<id>`, issued by whoever `http` is."""
    response = await http.post(f"/v1/{where}/tokens", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def key_id_of(token: Any) -> KeyId:
    """Return the key for which a token was issued."""
    return KeyId(token["token_id"].partition(".")[0])


@dataclass
class Watch:
    """The clock of a control plane's doorkeeper, which tests put forward."""

    doorkeeper: Doorkeeper

    @classmethod
    def of(cls, app: FastAPI) -> "Watch":
        """Return that of an application."""
        return cls(app.state.services.doorkeeper)

    def stop_at(self, now: float) -> None:
        """Let it be `now`, in seconds since the epoch, until it is put forward again."""
        self.doorkeeper.clock = lambda: now
