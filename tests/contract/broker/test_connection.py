"""Connections: URLs are shown without secrets, and a command can be cancelled at any time."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, connect, sentinel
from tailplane.broker.connection import reply_error
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.urls import mask_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@host:6379/0",
        "rediss://user:hunter2@host/1",
        "redis://user:hunter2%40x@host:6379",
        "redis://user:hunter2@x@host:6379",
        "redis://host:6379/0?password=hunter2",
        "unix://user:hunter2@/run/host.sock",
        "rediss+sentinel://user:hunter2@host:1,host:2/main/0",
        "redis+sentinel://:x@host/main?sentinel_password=hunter2",
        "user:hunter2@host:6379",
        "user:hunter2@host/?next=http://x",
        "user:hunter2://x@host",
        "host?password=hunter2&next=http://x",
        "Redis://user:hunter2@host",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    assert "hunter2" not in mask_url(url)
    assert "host" in mask_url(url)


@pytest.mark.parametrize("url", ["redis://:a?b@hunter2@host", "redis://host?password=a@hunter2"])
def test_where_a_password_ends_is_not_guessed(url: str) -> None:
    assert mask_url(url) == "redis://***"


def test_a_url_without_secrets_is_shown_as_it_is() -> None:
    for url in ("redis://127.0.0.1:6379/0", "127.0.0.1:6379", "unix:///run/redis.sock", "redis://[::1]:6379"):
        assert mask_url(url) == url


@pytest.mark.parametrize("ticks", range(25))
async def test_a_command_is_cancelled_at_whatever_point_it_is(broker: Broker, redis: Redis, ticks: int) -> None:
    await redis.ping()
    waiting = asyncio.ensure_future(broker.queue.wait(["flow"], timedelta(minutes=1)))
    for _ in range(ticks):
        await asyncio.sleep(0)
    waiting.cancel()
    # Far below what the wait itself would take.
    await asyncio.wait({waiting}, timeout=1.5)
    assert waiting.cancelled()
    # What the cancelled command left on its connection does not reach the next one.
    assert await redis.echo("hello") == b"hello"


async def test_the_reply_to_a_command_that_timed_out_does_not_reach_the_next_one(
    server: EmbeddedServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailplane.broker.connection.COMMAND_DEADLINE", 0.05)
    hasty = connect(server.url, Redis)
    broker = Broker.over(hasty, prefix="hasty", retention=timedelta(1), start_within=timedelta(1))
    await hasty.ping()
    await redis.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    with pytest.raises(StoreUnavailable):
        await broker.catalogue.create_session("default", {})
    await redis.execute_command("CLIENT", "UNPAUSE")
    assert await hasty.echo("hello") == b"hello"
    await redis.delete(*[key async for key in redis.scan_iter("hasty:*")] or ["-"])
    await hasty.aclose(close_connection_pool=True)


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: f00, on @user_script:7.", "memory is full"),
        (
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "busy with a script",
        ),
        ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", "a replica"),
    ],
)
def test_what_keeps_a_server_from_working_is_told_in_words_of_ours(reply: str, meaning: str) -> None:
    error = reply_error(reply)
    assert isinstance(error, StoreUnavailable)
    assert meaning in error.detail
    assert "script:" not in error.detail


async def test_who_waits_on_a_server_that_becomes_a_replica_is_told_that_it_is_away(
    broker: Broker, redis: Redis
) -> None:
    waiting = asyncio.ensure_future(broker.queue.wait(["flow"], timedelta(minutes=1)))
    await asyncio.sleep(0.1)
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await waiting
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")


async def test_each_scheme_keeps_its_kind_of_connection() -> None:
    from redis.asyncio import connection

    kinds = {
        "redis://host": connection.Connection,
        "rediss://host": connection.SSLConnection,
        "unix:///run/redis.sock": connection.UnixDomainSocketConnection,
        "redis+sentinel://host/main": sentinel.PrimaryConnection,
        "rediss+sentinel://host/main": sentinel.EncryptedPrimaryConnection,
    }
    for url, kind in kinds.items():
        client = connect(url, Redis)
        pool = client.connection_pool
        assert issubclass(pool.connection_class, kind)
        if isinstance(pool, sentinel.PrimaryPool):
            # What holds for the primary holds for those who name it.
            (asked,) = pool.sentinel_manager.sentinels
            is_encrypted = issubclass(asked.connection_pool.connection_class, connection.SSLConnection)
            assert is_encrypted == url.startswith("rediss")
        await client.aclose(close_connection_pool=True)
