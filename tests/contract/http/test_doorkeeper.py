"""The doorkeeper and the keys that it knows: who comes in, also while Redis is away, and what it asks Redis for."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from starlette.requests import Request

from tailplane.broker import Broker, connect
from tailplane.broker.api_keys import ApiKeys, KeyRecord, NewKey
from tailplane.control_plane import Settings
from tailplane.control_plane import known as known_module
from tailplane.control_plane.access import Need
from tailplane.control_plane.doorkeeper import Doorkeeper
from tailplane.control_plane.known import IDLE, TRUSTED
from tailplane.control_plane.known_keys import KnownKeys
from tailplane.control_plane.open_streams import OpenStreams
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.credentials import ApiKey, StreamToken, new_token_id
from tailplane.protocol.errors import CredentialExpired, Forbidden, StoreUnavailable, Unauthenticated
from tailplane.protocol.ids import KeyId, new_key_id, new_task_id
from tailplane.protocol.scopes import Action, Scope

READ = Need(frozenset({Scope.READ}))


@dataclass
class Watched:
    """API keys that count what they are asked, and may be away."""

    inner: ApiKeys
    asked: list[list[KeyId]] = field(default_factory=list)
    is_away: bool = False

    async def read_many(self, key_ids: list[KeyId]) -> list[KeyRecord | None]:
        if self.is_away:
            raise StoreUnavailable
        self.asked.append(key_ids)
        return await self.inner.read_many(key_ids)


@dataclass
class Hand:
    """A clock that the test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def store(broker: Broker) -> Watched:
    return Watched(broker.api_keys)


@pytest.fixture
def known(store: Watched, clock: Hand) -> KnownKeys:
    return KnownKeys(store, clock)  # type: ignore[arg-type]  # a part of it is enough


async def made(broker: Broker, *scopes: Scope) -> ApiKey:
    return (await broker.api_keys.create(NewKey(tenant="acme", name="app", scopes=frozenset(scopes))))[1]


async def test_a_known_key_is_not_asked_for_again(broker: Broker, known: KnownKeys, store: Watched) -> None:
    key = await made(broker, Scope.READ)
    for _ in range(3):
        assert (await known.find(key.key_id)) is not None
    assert store.asked == [[key.key_id]]


async def test_what_nobody_has_is_asked_for_each_time_and_kept_never(
    known: KnownKeys, store: Watched, broker: Broker
) -> None:
    key_id = new_key_id()
    for _ in range(2):
        assert await known.find(key_id) is None
    assert store.asked == [[key_id]] * 2
    assert len(known._copies) == 0
    # Its key may be made the next moment, by another control plane.
    key = await made(broker)
    assert await known.find(key.key_id) is not None


async def test_a_change_is_seen_at_the_next_look(broker: Broker, known: KnownKeys) -> None:
    key = await made(broker)
    await known.find(key.key_id)
    await broker.api_keys.revoke(key.key_id)
    await known.refresh()
    record = await known.find(key.key_id)
    assert record is not None
    assert record.revoked_at is not None


async def test_what_a_request_has_found_while_all_are_looked_up_stays(
    broker: Broker, known: KnownKeys, store: Watched, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(broker)
    await known.find(key.key_id)

    async def overtaken(key_ids: list[KeyId]) -> list[KeyRecord | None]:
        found = await broker.api_keys.read_many(key_ids)
        monkeypatch.undo()
        await broker.api_keys.revoke(key.key_id)
        clock.now += 0.1
        await known.look(key.key_id)
        return found

    monkeypatch.setattr(store, "read_many", overtaken)
    await known.refresh()
    record = known.latest(key.key_id)
    assert record is not None
    assert record.revoked_at is not None


@pytest.mark.parametrize("older", ["refresh", "look"])
@pytest.mark.parametrize("had", ["the key before", "nothing"])
async def test_an_older_look_changes_nothing_of_a_newer_one_also_where_the_key_is_in_use(
    broker: Broker, known: KnownKeys, store: Watched, clock: Hand, monkeypatch: pytest.MonkeyPatch, had: str, older: str
) -> None:
    key = await made(broker)
    before = await broker.api_keys.read_many([key.key_id]) if had == "the key before" else [None]
    await known.find(key.key_id)

    async def overtaken(_ids: list[KeyId]) -> list[KeyRecord | None]:
        monkeypatch.undo()
        await broker.api_keys.revoke(key.key_id)
        clock.now += 0.1
        assert (await known.look(key.key_id)) is not None
        return before

    monkeypatch.setattr(store, "read_many", overtaken)
    if older == "refresh":
        await known.refresh([key.key_id])
    else:
        told = await known.look(key.key_id)
        assert told is not None
        assert told.revoked_at is not None
    record = known.latest(key.key_id)
    assert record is not None
    assert record.revoked_at is not None


async def test_while_redis_is_away_what_was_known_is_good_for_a_while(
    broker: Broker, known: KnownKeys, store: Watched, clock: Hand
) -> None:
    key = await made(broker)
    await known.find(key.key_id)
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        await known.refresh()
    clock.now += TRUSTED
    assert await known.find(key.key_id) is not None
    clock.now += 0.1
    with pytest.raises(StoreUnavailable):
        await known.find(key.key_id)


async def test_a_key_that_nobody_uses_is_not_looked_after(
    broker: Broker, known: KnownKeys, store: Watched, clock: Hand
) -> None:
    idle, used = await made(broker), await made(broker)
    await known.find(idle.key_id)
    await known.find(used.key_id)
    clock.now += IDLE
    await known.refresh()
    await known.find(used.key_id)
    clock.now += 0.1
    await known.refresh()
    assert store.asked[-1] == [used.key_id]


async def test_the_keys_used_last_stay_known(
    broker: Broker, known: KnownKeys, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_module, "MOST", 2)
    first, second, third = [await made(broker) for _ in range(3)]
    for key in (first, second, first, third):
        await known.find(key.key_id)
    store.asked.clear()
    await known.find(first.key_id)
    assert store.asked == []
    await known.find(second.key_id)
    assert store.asked == [[second.key_id]]


async def test_a_forgotten_key_is_forgotten_here_too(broker: Broker, known: KnownKeys) -> None:
    key = await made(broker)
    await known.find(key.key_id)
    await broker.api_keys._forget("acme", [key.key_id])
    await known.refresh()
    assert await known.find(key.key_id) is None


def request(*headers: tuple[str, str], query: str = "") -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return Request({"type": "http", "headers": raw, "query_string": query.encode(), "path_params": {}})


def bearing(text: str) -> Request:
    return request(("authorization", f"Bearer {text}"))


@pytest.fixture
def door(broker: Broker, settings: Settings) -> Doorkeeper:
    return Doorkeeper(broker, settings.model_copy(update={"auth": "keys"}), OpenStreams())


async def test_a_key_opens_what_it_is_for(broker: Broker, door: Doorkeeper) -> None:
    key = await made(broker, Scope.READ)
    caller = await door.admit(bearing(key.text), READ)
    assert (caller.tenant, caller.key_id, caller.scopes, caller.token) == ("acme", key.key_id, {Scope.READ}, None)
    with pytest.raises(Forbidden) as caught:
        await door.admit(bearing(key.text), Need(frozenset({Scope.READ, Scope.CANCEL})))
    assert caught.value.facts["missing"] == ["cancel"]


async def test_the_scheme_is_read_in_any_case_and_blanks_are_none_of_the_key(broker: Broker, door: Doorkeeper) -> None:
    key = await made(broker, Scope.READ)
    assert (await door.admit(request(("authorization", f"bEaReR   {key.text} ")), READ)).key_id == key.key_id


@pytest.mark.parametrize("query", ["token={key}", "token=", "api_key={key}", "token=tps_x"])
async def test_an_api_key_does_not_come_in_by_the_query(broker: Broker, door: Doorkeeper, query: str) -> None:
    key = await made(broker, Scope.READ)
    for by_query in (True, False):
        with pytest.raises(Unauthenticated) as caught:
            await door.admit(
                request(query=query.format(key=key.text)), Need(frozenset({Scope.READ}), by_query=by_query)
            )
        assert key.secret not in str(caught.value.problem())


async def test_a_wrong_secret_opens_nothing_known_or_not(broker: Broker, door: Doorkeeper) -> None:
    key = await made(broker, Scope.READ)
    await door.admit(bearing(key.text), READ)
    said = []
    for wrong in (ApiKey.draw(key.key_id), ApiKey.draw(new_key_id())):
        with pytest.raises(Unauthenticated) as caught:
            await door.admit(bearing(wrong.text), READ)
        said.append(caught.value.problem())
    assert said[0] == said[1]


async def test_a_new_secret_of_a_known_key_is_good_at_once(broker: Broker, door: Doorkeeper) -> None:
    before = await made(broker, Scope.READ)
    await door.admit(bearing(before.text), READ)
    _, after = await broker.api_keys.rotate(before.key_id, timedelta())
    await door.admit(bearing(after.text), READ)
    # The one before ends with the next round.
    await door.look()
    with pytest.raises(Unauthenticated):
        await door.admit(bearing(before.text), READ)


async def test_each_round_lets_credentials_prove_themselves_anew_also_one_that_fails(
    broker: Broker, door: Doorkeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(broker, Scope.READ)
    before = await door.admit(bearing(key.text), READ)
    assert await door.admit(bearing(key.text), READ) is before
    await door.look()
    assert (again := await door.admit(bearing(key.text), READ)) is not before

    async def away(_self: ApiKeys, _ids: list[KeyId]) -> list[KeyRecord | None]:
        raise StoreUnavailable

    monkeypatch.setattr(ApiKeys, "read_many", away)
    with pytest.raises(StoreUnavailable):
        await door.look()
    assert await door.admit(bearing(key.text), READ) is not again


async def test_while_redis_is_away_a_credential_is_not_good_for_longer_than_its_key_is_trusted(
    settings: Settings, clock: Hand
) -> None:
    with EmbeddedServer(persist=True) as mortal:
        redis = connect(mortal.url, Redis)
        hour = timedelta(hours=1)
        broker = Broker.over(redis, prefix=settings.prefix, retention=hour, start_within=hour)
        door = Doorkeeper(broker, settings.model_copy(update={"auth": "keys"}), OpenStreams())
        door.known = KnownKeys(broker.api_keys, clock)
        key = await made(broker, Scope.READ)
        await door.admit(bearing(key.text), READ)
        looking = asyncio.create_task(door.run())
        try:
            mortal.kill()
            await until(lambda: door.outage.is_on)
            clock.now += TRUSTED
            # It proves itself each time.
            one, other = [await door.admit(bearing(key.text), READ) for _ in range(2)]
            assert one is not other
            clock.now += 0.1
            with pytest.raises(StoreUnavailable):
                await door.admit(bearing(key.text), READ)
            mortal.start()
            await until(lambda: not door.outage.is_on)
            one, other = [await door.admit(bearing(key.text), READ) for _ in range(2)]
            assert one is other
        finally:
            looking.cancel()
            await asyncio.wait({looking})
            await redis.aclose(close_connection_pool=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.05)


async def test_while_a_round_takes_long_a_credential_proves_itself_anew_all_the_same(
    broker: Broker, settings: Settings
) -> None:
    clock = Hand(time.time())
    door = Doorkeeper(broker, settings.model_copy(update={"auth": "keys"}), OpenStreams(), clock)
    key = await made(broker, Scope.READ)
    await door.admit(bearing(key.text), READ)
    await broker.api_keys.revoke(key.key_id)
    # A part of a round, which does not end.
    await door.known.refresh()
    clock.now += TRUSTED - 0.1
    await door.admit(bearing(key.text), READ)
    clock.now += 0.1
    with pytest.raises(Unauthenticated, match="revoked"):
        await door.admit(bearing(key.text), READ)


async def test_a_key_that_has_expired_opens_nothing_also_with_a_secret_before(
    broker: Broker, settings: Settings
) -> None:
    clock = Hand(time.time())
    door = Doorkeeper(broker, settings.model_copy(update={"auth": "keys"}), OpenStreams(), clock)
    new = NewKey(tenant="acme", name="app", scopes=frozenset({Scope.READ}), expires_in=timedelta(hours=2))
    record, before = await broker.api_keys.create(new)
    _, after = await broker.api_keys.rotate(record.key_id, timedelta(hours=1))
    for key in (before, after):
        assert (await door.admit(bearing(key.text), READ)).expires_at == record.expires_at
    clock.now += 3601
    with pytest.raises(Unauthenticated, match="no such API key"):
        await door.admit(bearing(before.text), READ)
    await door.admit(bearing(after.text), READ)
    clock.now += 3601
    with pytest.raises(CredentialExpired):
        await door.admit(bearing(after.text), READ)


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_jumps_and_comes_back_leaves_nothing_behind(
    broker: Broker, settings: Settings, hours: int
) -> None:
    clock = Hand(time.time())
    door = Doorkeeper(broker, settings.model_copy(update={"auth": "keys"}), OpenStreams(), clock)
    new = NewKey(tenant="acme", name="app", scopes=frozenset({Scope.READ}), expires_in=timedelta(minutes=30))
    record, before = await broker.api_keys.create(new)
    _, after = await broker.api_keys.rotate(record.key_id, timedelta(minutes=10))
    said = StreamToken(
        new_token_id(record.key_id),
        "acme",
        record.key_id,
        (task := new_task_id()),
        frozenset({Action.READ}),
        int((clock.now + 600) * 1000),
    )

    async def who_comes_in() -> list[bool]:
        found = []
        for text in (before.text, after.text, said.sign(record.signing)):
            asked = bearing(text)
            asked.scope["path_params"]["task_id"] = task
            try:
                await door.admit(asked, Need(frozenset({Scope.READ}), Action.READ))
                found.append(True)
            except Unauthenticated:
                found.append(False)
        return found

    assert await who_comes_in() == [True] * 3
    clock.now += 3600 * hours
    # What was proved before the jump does not outlive it.
    assert await who_comes_in() == [hours < 0] * 3
    clock.now -= 3600 * hours
    assert await who_comes_in() == [True] * 3
    clock.now += 900
    assert await who_comes_in() == [False, True, False]
    clock.now += 1800
    assert await who_comes_in() == [False] * 3


async def test_where_nobody_signs_in_a_credential_is_not_even_read(broker: Broker, settings: Settings) -> None:
    door = Doorkeeper(broker, settings.model_copy(update={"auth": "none"}), OpenStreams())
    for asked in (request(), bearing("tp_of another deployment"), request(("authorization", "Basic x"))):
        caller = await door.admit(asked, Need(frozenset({Scope.ADMIN})))
        assert (caller.tenant, caller.key_id) == ("default", None)


async def test_on_loopback_pages_from_elsewhere_do_not_come_in(broker: Broker, settings: Settings) -> None:
    door = Doorkeeper(broker, settings.model_copy(update={"auth": None, "host": "127.0.0.1"}), OpenStreams())
    assert (await door.admit(request(("host", "localhost:8420")), READ)).tenant == "default"
    for headers in ([("host", "evil.example")], [("host", "localhost"), ("origin", "https://evil.example")]):
        with pytest.raises(Forbidden):
            await door.admit(request(*headers), READ)
