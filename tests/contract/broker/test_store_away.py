"""Redis away: every public method says so, with an error that tells the caller to try again."""

import inspect
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from tailplane.broker import (
    Append,
    Broker,
    Claim,
    Closing,
    Cut,
    EventLog,
    Joins,
    Queue,
    Request,
    SessionRef,
    TaskRef,
    TaskStore,
    TenantRecord,
    Tenants,
    WorkerRecord,
    connect,
)
from tailplane.broker.api_keys import ApiKeys, KeyRecord, NewKey
from tailplane.broker.catalogue import Catalogue
from tailplane.broker.inbox import Inbox
from tailplane.broker.parking import Parked, Parking
from tailplane.broker.revoked_tokens import Revoked, RevokedTokens
from tailplane.broker.session_state import SessionStates
from tailplane.broker.usage import Rate, Usage
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, new_key_id, new_session_id, new_task_id, new_worker_id
from tailplane.protocol.scopes import Scope
from tailplane.protocol.states import Trigger

from .conftest import LEASE, new_task

TASK, WORKER, SESSION = TaskRef(new_task_id()), new_worker_id(), new_session_id()
CLAIM = Claim(TASK, "echo", timedelta())
KEY, NEW_KEY = new_key_id(), NewKey(tenant="default", name="app", scopes=frozenset({Scope.READ}))
CALLS: dict[str, tuple[Any, ...]] = {
    "tasks.create": (new_task(),),
    "tasks.discard": (TASK,),
    "tasks.read": (TASK,),
    "tasks.read_many": ([TASK], ["state"]),
    "tasks.judge": ([TASK],),
    "tasks.wait_for": (TASK, "ends"),
    "tasks.begin": (TASK, WORKER, "host"),
    "tasks.finish": (TASK, Closing(Trigger.FAIL, 1, 1, [b"\x90"])),
    "tasks.end": (TASK, Trigger.CANCEL, 1, PlatformType.CANCELLED, {}),
    "tasks.repair": (TASK, 1, WORKER, EntryId(1, 2), []),
    "tasks.fail": (TASK, 1, {}),
    "log.trim": ([Cut(TASK, EntryId(1, 2), 2)],),
    "log.append": ([Append(TASK, EntryId(1, 2), b"\x90")],),
    "log.read_after": ([(TASK, EntryId(0, 0), 1)],),
    "log.exist": ([TASK],),
    "log.locate": (TASK, 0, 1),
    "log.newest": (TASK, 1),
    "log.newest_entry": (TASK,),
    "queue.enqueue": (TASK, "echo"),
    "queue.now_ms": (),
    "queue.depth": ("echo",),
    "queue.backlogs": (["echo"],),
    "queue.queues": (1,),
    "queue.made_by": ("default", Request("key", "content")),
    "queue.overdue": ("echo", LEASE, 1),
    "queue.claim": (WORKER, 1, {"echo": 1}),
    "queue.wait": (["echo"], timedelta(seconds=1)),
    "queue.acknowledge": (WORKER, CLAIM),
    "queue.admit": (1,),
    "queue.waits": ([(TASK, "echo")],),
    "queue.requeue": (WORKER, CLAIM, timedelta()),
    "queue.withdraw": (TASK, "echo", WORKER),
    "queue.tell_cancel": (WORKER, TASK, None),
    "queue.tell_message": (WORKER, TASK),
    "queue.held": (WORKER,),
    "queue.register": (WorkerRecord(WORKER, "host", 1, "1", [], 1, 0), [], LEASE),
    "queue.renew": (WORKER, LEASE),
    "queue.lapsed": (),
    "queue.reap": (WORKER,),
    "queue.workflows": (),
    "queue.workflow": ("echo",),
    "queue.workers": (),
    "catalogue.create_session": ("default", {}, Request("key", "content")),
    "catalogue.session": ("default", SESSION),
    "catalogue.close_session": ("default", SESSION),
    "catalogue.task_ids": ("default", None, None, 1),
    "catalogue.oldest_task_ids": ("default", None, 1),
    "catalogue.note_tasks": ("default", [TASK.task_id]),
    "catalogue.note_gone": ("default", [TASK.task_id]),
    "catalogue.note_dead": (TASK,),
    "catalogue.dead_letter_counts": (["default"],),
    "catalogue.dead_letter_ids": ("default", None, 1),
    "catalogue.oldest_dead_letter_ids": ("default", None, 1),
    "catalogue.drop_dead": (TASK, LEASE),
    "catalogue.forget_dead": ("default", [TASK.task_id]),
    "catalogue.was_here": (TASK,),
    "inbox.deliver": (TASK, None, 1),
    "inbox.count": (TASK,),
    "inbox.read": (TASK, 0),
    "parking.park": (WORKER, Claim(TASK, "echo", timedelta()), None),
    "parking.unpark": (Parked(TASK, "echo"),),
    "parking.due": (1, 1),
    "parking.page": (0, 1),
    "parking.are_parked": ([Parked(TASK, "echo")],),
    "joins.look": ([(SessionRef(SESSION), 1, 1)],),
    "joins.newest": (SessionRef(SESSION),),
    "joins.named": (SessionRef(SESSION), [1]),
    "states.get": (SessionRef(SESSION), "key"),
    "states.all": (SessionRef(SESSION),),
    "revoked_tokens.add": (Revoked("acme", "nobody.0123456789abcdef"),),
    "revoked_tokens.since": (0,),
    "states.set": (SessionRef(SESSION), "key", b"\xc0", None, "call"),
    "api_keys.create": (NEW_KEY,),
    "api_keys.put": (NEW_KEY, ApiKey.draw(KEY)),
    "api_keys.read": (KEY,),
    "api_keys.read_many": ([KEY],),
    "api_keys.page": ("default", None, 1),
    "api_keys.any_is_live": (),
    "api_keys.has_other_admin": (KeyRecord(KEY, "default", "app", frozenset(), 0.0),),
    "api_keys.rotate": (KEY, timedelta()),
    "api_keys.revoke": (KEY,),
    "tenants.note": ("acme",),
    "tenants.read": ("acme",),
    "tenants.all": (),
    "tenants.version": (),
    "tenants.names": (),
    "tenants.set_limits": (TenantRecord("acme"),),
    "usage.take_submit": ("acme", [Rate("acme", 1)], None),
    "usage.tell_readers": ("here", {"acme": 1}),
    "usage.running": ([WORKER],),
    "usage.note_stored": ({"acme": 1},),
    "usage.stored": (["acme"],),
}
STORES = {
    "tasks": TaskStore,
    "log": EventLog,
    "queue": Queue,
    "catalogue": Catalogue,
    "inbox": Inbox,
    "parking": Parking,
    "joins": Joins,
    "states": SessionStates,
    "api_keys": ApiKeys,
    "tenants": Tenants,
    "revoked_tokens": RevokedTokens,
    "usage": Usage,
}


def test_every_public_method_is_called_here() -> None:
    public = {
        f"{name}.{method}"
        for name, store in STORES.items()
        for method, function in inspect.getmembers(store, inspect.iscoroutinefunction)
        if not method.startswith("_")
    }
    assert set(CALLS) == public


@pytest.fixture(scope="module")
def mortal() -> Iterator[EmbeddedServer]:
    """A server of these tests' own, to be taken away."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def bereft(mortal: EmbeddedServer, prefix: str) -> AsyncIterator[Broker]:
    """A broker whose server died after it had connected."""
    mortal.start()
    client = connect(mortal.url, Redis)
    await client.ping()
    mortal.kill()
    yield Broker.over(client, prefix=prefix, retention=timedelta(hours=1), start_within=timedelta(hours=1))
    await client.aclose(close_connection_pool=True)


def call(broker: Broker, name: str) -> Any:
    store, _, method = name.partition(".")
    return getattr(getattr(broker, store), method)(*CALLS[name])


async def test_every_method_says_that_the_store_is_away(bereft: Broker) -> None:
    for name in CALLS:
        # The first notices that its connection broke, the second that nobody takes a new one.
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                await call(bereft, name)
            assert caught.value.retry_after > 0, name


async def test_a_server_that_does_not_answer_in_time_is_away(
    broker: Broker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailplane.broker.wire.COMMAND_DEADLINE", 0.05)
    await redis.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    try:
        with pytest.raises(StoreUnavailable):
            await broker.tasks.begin(TASK, WORKER, "host")
    finally:
        await redis.execute_command("CLIENT", "UNPAUSE")


async def test_a_server_that_is_back_serves_the_same_client(mortal: EmbeddedServer, bereft: Broker) -> None:
    with pytest.raises(StoreUnavailable):
        await bereft.queue.workers()
    mortal.start()
    assert await bereft.queue.workers() == []
