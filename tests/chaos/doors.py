"""Who signs in during a run: some tenants, each with an API key that is rotated, or revoked and replaced, meanwhile.

What the programs of a tenant do when their key is refused is `Load`'s: they go on with the one of the moment.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar

from redis.asyncio import Redis

from tailplane.broker import Broker, connect
from tailplane.broker.api_keys import ApiKeys, NewKey
from tailplane.client import Client
from tailplane.deploy import probe
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import StoreUnavailable, TaskNotFound
from tailplane.protocol.ids import KeyId
from tailplane.protocol.scopes import Scope
from tests.chaos.checks import Violation
from tests.chaos.history import TaskHistory
from tests.chaos.load import PATIENT
from tests.chaos.orders import TENANTS, Order

T = TypeVar("T")

# Seconds: for Valkey to be back; until every control plane must have noticed what became of a key.
_AWAY = 60.0
_NOTICED = 15.0
_SCOPES = frozenset({Scope.SUBMIT, Scope.READ, Scope.CANCEL})


class Doors:
    """The tenants' keys and clients. Clients of a key that has ended live as long as these doors."""

    def __init__(self, url: str, keys: ApiKeys, stack: contextlib.AsyncExitStack) -> None:
        self._url = url
        self._keys = keys
        self._stack = stack
        self._at_present: dict[str, ApiKey] = {}
        self._clients: dict[str, Client] = {}
        # Secrets that are good for nothing, or will be: since when.
        self._ended: dict[str, float] = {}

    def of(self, order: Order) -> Client:
        """Return the client through which an order, and what follows of it, goes at present."""
        return self._clients[order.tenant]

    def key_of(self, tenant: str) -> str:
        """Return the key of the moment."""
        return self._at_present[tenant].text

    async def replace(self, tenant: str) -> None:
        """Give a tenant another key, and revoke the one that it had, if any."""
        new = NewKey(tenant=tenant, name="chaos", scopes=_SCOPES)
        _, key = await _when_back(lambda: self._keys.create(new))
        before = self._at_present.get(tenant)
        await self._hand_out(tenant, key)
        if before is not None:
            await _when_back(partial(self._keys.revoke, before.key_id))
            self._ended[before.text] = time.time()

    async def rotate(self, tenant: str, grace: float) -> None:
        """Give a tenant's key another secret; the one before is good for `grace` seconds more."""
        before = self._at_present[tenant]
        await self._hand_out(tenant, await _when_back(partial(self._rotate, before.key_id, grace)))
        self._ended[before.text] = time.time() + grace

    async def violations(self, url: str) -> list[Violation]:
        """Return which keys a control plane lets in that have ended, and which it does not though they are good."""
        await asyncio.sleep(max([0.0, *self._ended.values()]) + _NOTICED - time.time())
        expected = dict.fromkeys(self._ended, 401) | {key.text: 200 for key in self._at_present.values()}
        found = []
        for key, status in expected.items():
            answer = await asyncio.to_thread(probe.get_json, url, "/v1/workflows", 10.0, key)
            if answer is None or answer[0] != status:
                seen = str(answer and answer[0])
                found.append(Violation("", "keys are good until they end", f"{status} for {key[:12]}...", seen))
        return found

    async def _rotate(self, key: KeyId, grace: float) -> ApiKey:
        _, rotated = await self._keys.rotate(key, timedelta(seconds=grace))
        return rotated

    async def _hand_out(self, tenant: str, key: ApiKey) -> None:
        client = Client(self._url, api_key=key.text, options=PATIENT)
        self._at_present[tenant], self._clients[tenant] = key, await self._stack.enter_async_context(client)


@contextlib.asynccontextmanager
async def open_doors(redis_url: str, url: str) -> AsyncIterator[Doors]:
    """Make the tenants' first keys, and clients of a control plane that comes later."""
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(redis_url, Redis))
        broker = Broker.over(redis, prefix="tailplane", retention=timedelta(days=1), start_within=timedelta(days=1))
        doors = Doors(url, broker.api_keys, stack)
        for tenant in TENANTS:
            await broker.tenants.note(tenant)
            await doors.replace(tenant)
        yield doors


class FreshClients:
    """Clients that have seen nothing: one for each tenant."""

    def __init__(self, clients: dict[str, Client]) -> None:
        self._clients = clients

    def of(self, order: Order) -> Client:
        return self._clients[order.tenant]

    def another(self, order: Order) -> Client:
        """Return a client of another tenant's."""
        return self._clients[TENANTS[(TENANTS.index(order.tenant) + 1) % len(TENANTS)]]


@contextlib.asynccontextmanager
async def fresh_clients(url: str, doors: Doors | None) -> AsyncIterator[FreshClients]:
    """Open them, with the keys of the moment; without any where nobody signs in."""
    async with contextlib.AsyncExitStack() as stack:
        keys = {tenant: doors.key_of(tenant) if doors else None for tenant in TENANTS}
        clients = {tenant: await stack.enter_async_context(Client(url, api_key=key)) for tenant, key in keys.items()}
        yield FreshClients(clients)


async def seen_by_others(clients: FreshClients, histories: Sequence[TaskHistory]) -> list[Violation]:
    """Return which tasks another tenant finds."""
    found = []
    for history in (history for history in histories if history.task_id):
        try:
            status = await clients.another(history.order).task(history.task_id).status()
        except TaskNotFound:
            continue
        found.append(Violation(history.task_id, "no other tenant finds a task", "nothing", str(status)))
    return found


async def _when_back(call: Callable[[], Awaitable[T]]) -> T:
    """Return what a call to Redis comes to, which may be away."""
    async with asyncio.timeout(_AWAY):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.1)
