"""One Pub/Sub connection that comes back, and tells of all that it may have missed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tailplane.broker import Primary, Subscriptions, connect, subscriptions
from tailplane.broker.connection import HandedOver
from tailplane.broker.wire import Line
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.errors import StoreUnavailable


@dataclass
class Ear:
    """Hears channels, and waits for what the test expects."""

    heard: list[tuple[str, bytes | None]] = field(default_factory=list)
    _new: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, channel: str, message: bytes | None) -> None:
        self.heard.append((channel, message))
        self._new.set()

    async def until(self, condition: Callable[[list[tuple[str, bytes | None]]], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition(self.heard):
                self._new.clear()
                await self._new.wait()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def own_redis(server: EmbeddedServer) -> AsyncIterator[Redis]:
    """A client whose connections these tests kill."""
    client = connect(server.url, Redis)
    yield client
    await client.aclose(close_connection_pool=True)


@contextlib.asynccontextmanager
async def running(redis: Redis, ear: Ear) -> AsyncIterator[Subscriptions]:
    bells = Subscriptions(Primary(redis), ear.hear)
    task = asyncio.ensure_future(bells.run())
    try:
        yield bells
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def kill_pubsub(redis: Redis) -> None:
    assert await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def test_what_is_published_is_heard_on_the_channels_asked_for(redis: Redis, ear: Ear) -> None:
    async with running(redis, ear) as bells:
        await bells.subscribe("a")
        await bells.subscribe("b")
        await redis.publish("a", b"1")
        await redis.publish("c", b"2")
        await redis.publish("b", b"3")
        await ear.until(lambda heard: ("b", b"3") in heard)
    assert [message for message in ear.heard if message[1] is not None] == [("a", b"1"), ("b", b"3")]


async def test_a_confirmed_subscription_is_told_like_a_message_that_was_missed(redis: Redis, ear: Ear) -> None:
    async with running(redis, ear) as bells:
        await bells.subscribe("a")
    assert ear.heard == [("a", None)]


async def test_what_is_no_longer_wanted_is_not_heard(redis: Redis, ear: Ear) -> None:
    async with running(redis, ear) as bells:
        await bells.subscribe("a")
        await bells.subscribe("b")
        await bells.unsubscribe("a")
        await bells.unsubscribe("never wanted")
        await redis.publish("a", b"1")
        await redis.publish("b", b"2")
        await ear.until(lambda heard: ("b", b"2") in heard)
    assert ("a", b"1") not in ear.heard


async def test_a_lost_connection_comes_back_and_tells_of_every_channel(
    redis: Redis, own_redis: Redis, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "PAUSE", 0.01)
    async with running(own_redis, ear) as bells:
        for channel in ("a", "b"):
            await bells.subscribe(channel)
        for _ in range(3):
            ear.heard.clear()
            await kill_pubsub(redis)
            await ear.until(lambda heard: {("a", None), ("b", None)} <= set(heard))
            await redis.publish("b", b"again")
            await ear.until(lambda heard: ("b", b"again") in heard)


async def test_who_comes_while_it_connects_is_subscribed_too(
    redis: Redis, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, go_on = asyncio.Event(), asyncio.Event()
    open_at_once = Line.open

    async def slow(line: Line, connection: HandedOver) -> None:
        connecting.set()
        await go_on.wait()
        await open_at_once(line, connection)

    # Who was forgotten meanwhile waits for this.
    monkeypatch.setattr(subscriptions, "CONFIRMATION", 3600)
    monkeypatch.setattr(Line, "open", slow)
    async with running(redis, ear) as bells:
        await asyncio.wait_for(connecting.wait(), 20)
        late = asyncio.ensure_future(bells.subscribe("late"))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(late, 20)
        await redis.publish("late", b"1")
        await ear.until(lambda heard: ("late", b"1") in heard)


async def test_many_that_ask_at_once_share_a_subscription(redis: Redis, ear: Ear) -> None:
    async with running(redis, ear) as bells:
        await asyncio.gather(*(bells.subscribe(f"channel-{n % 10}") for n in range(100)))
    assert sorted(ear.heard) == [(f"channel-{n}", None) for n in range(10)]


async def test_without_redis_a_subscription_is_not_confirmed(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "CONFIRMATION", 0.05)
    nowhere = connect("redis://127.0.0.1:1/0", Redis)
    async with running(nowhere, ear) as bells:
        with pytest.raises(StoreUnavailable):
            await bells.subscribe("a")
    await nowhere.aclose(close_connection_pool=True)


async def test_a_silent_connection_is_given_up(redis: Redis, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "PAUSE", 0.01)
    monkeypatch.setattr(subscriptions, "SILENCE", 0.05)
    # Nothing is published: the connection counts as dead again and again.
    async with running(redis, ear) as bells:
        await bells.subscribe("a")
        await ear.until(lambda heard: len(heard) >= 3)
    assert set(ear.heard) == {("a", None)}


async def test_a_quiet_connection_is_asked_and_so_is_not_silent(
    redis: Redis, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "BEAT", 0.01)

    async def is_heard(bells: Subscriptions) -> None:
        # Silence is counted from there.
        before = bells._heard_at
        async with asyncio.timeout(20):
            while bells._heard_at == before:
                await asyncio.sleep(0.01)

    async with running(redis, ear) as bells:
        await bells.subscribe("a")
        for _ in range(3):
            await is_heard(bells)
        await bells.unsubscribe("a")
        # Without a channel the server answers in another form. The first may be what it said of the last one.
        for _ in range(3):
            await is_heard(bells)
        await bells.subscribe("a")
    assert ear.heard == [("a", None)] * 2


async def test_a_server_that_has_become_a_replica_is_left(
    redis: Redis, server: EmbeddedServer, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "PAUSE", 0.01)
    monkeypatch.setattr(subscriptions, "BEAT", 0.05)
    async with running(redis, ear) as bells:
        await bells.subscribe("a")
        # A replica that has no link to its primary: it publishes and hears as ever, and nobody else's messages.
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            await ear.until(lambda heard: heard.count(("a", None)) >= 3)
        finally:
            await redis.execute_command("REPLICAOF", "NO", "ONE")
        ear.heard.clear()
        await asyncio.sleep(0.5)
    # A primary is kept. (One look may have been under way.)
    assert len(ear.heard) <= 1


async def test_a_subscription_that_is_refused_for_now_is_asked_for_again(
    own_redis: Redis, redis: Redis, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "PAUSE", 0.01)
    # Who is not subscribed again waits for this.
    monkeypatch.setattr(subscriptions, "CONFIRMATION", 3600)
    await redis.config_set("busy-reply-threshold", 50)
    other = connect_again(redis)
    async with running(own_redis, ear) as bells:
        await bells.subscribe("a")
        endless = asyncio.ensure_future(other.eval("while true do end", 0))
        try:
            async with asyncio.timeout(10):
                while not await is_busy(redis):
                    await asyncio.sleep(0.01)
            late = asyncio.ensure_future(bells.subscribe("late"))
            await asyncio.sleep(0.5)
            assert not late.done()
        finally:
            await redis.execute_command("SCRIPT", "KILL")
            await asyncio.gather(endless, return_exceptions=True)
            await other.aclose(close_connection_pool=True)
            await redis.config_set("busy-reply-threshold", 5000)
        await asyncio.wait_for(late, 20)


async def is_busy(redis: Redis) -> bool:
    try:
        await redis.ping()
    except ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def connect_again(redis: Redis) -> Redis:
    return connect("redis://{host}:{port}/0".format(**redis.connection_pool.connection_kwargs), Redis)
