"""A primary that is found through sentinels, which are real."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tailplane.broker import Primary, Subscriptions, connect
from tailplane.broker import sentinel as sentinel_module
from tailplane.broker.connection import follow_primary
from tailplane.broker.wire import Wire
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.errors import StoreUnavailable
from tests.sentinel_process import SERVICE, SentinelProcess


@pytest.fixture(scope="module")
def sentinel() -> Iterator[SentinelProcess]:
    """A sentinel that takes nothing for down while these tests run."""
    with SentinelProcess(down_after_ms=600_000) as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[EmbeddedServer]:
    """A second server: the primary after a failover."""
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
async def client(sentinel: SentinelProcess, server: EmbeddedServer) -> AsyncIterator[Redis]:
    """A client of what the sentinel takes for the primary: the shared server, at first."""
    sentinel.monitor(server.port)
    client = connect(f"redis+sentinel://{sentinel.address}/{SERVICE}", Redis)
    yield client
    await client.aclose(close_connection_pool=True)


async def port_of(wire: Wire) -> int:
    (_, port) = await wire.run("CONFIG", "GET", "port")
    return int(port)


async def test_the_primary_is_found(client: Redis, server: EmbeddedServer) -> None:
    assert await port_of(Wire(client)) == server.port
    assert int((await client.config_get("port"))["port"]) == server.port


async def test_whatever_is_wrong_with_a_sentinel_another_one_is_asked(
    sentinel: SentinelProcess, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel_module, "SENTINEL_DEADLINE", 0.2)
    sentinel.monitor(server.port)
    hanging = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.set()
        try:
            await asyncio.sleep(60)
        finally:
            writer.transport.abort()

    with SentinelProcess() as ignorant:
        async with await asyncio.start_server(hang, "127.0.0.1", 0) as silent:
            places = [
                "127.0.0.1:1",
                f"127.0.0.1:{silent.sockets[0].getsockname()[1]}",
                f"127.0.0.1:{server.port}",
                ignorant.address,
                sentinel.address,
            ]
            client = connect(f"redis+sentinel://{','.join(places)}/{SERVICE}", Redis)
            async with asyncio.timeout(10):
                assert await port_of(Wire(client)) == server.port
            assert hanging.is_set()
            # From now on the one that answered is asked first.
            hanging.clear()
            await follow_primary(client)
            assert not hanging.is_set()
            await client.aclose(close_connection_pool=True)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "hang" in repr(task.get_coro()):
                    task.cancel()


async def test_a_search_has_a_deadline_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel_module, "SEARCH_DEADLINE", 0.2)
    done = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.transport.abort()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as silent:
        place = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        client = connect(f"redis+sentinel://{','.join([place] * 20)}/{SERVICE}", Redis)
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable, match="TimeoutError"):
                await Wire(client).run("PING")
        await client.aclose(close_connection_pool=True)
        done.set()


async def test_a_replica_is_not_taken_for_the_primary(
    client: Redis, sentinel: SentinelProcess, server: EmbeddedServer, other: EmbeddedServer
) -> None:
    direct = connect(other.url, Redis)
    await direct.execute_command("REPLICAOF", "127.0.0.1", str(server.port))
    try:
        sentinel.monitor(other.port)
        with pytest.raises(StoreUnavailable, match="name no primary"):
            await Wire(client).run("PING")
    finally:
        await direct.execute_command("REPLICAOF", "NO", "ONE")
        await direct.aclose(close_connection_pool=True)


async def test_a_user_who_may_not_ask_for_the_role_is_served_all_the_same(
    sentinel: SentinelProcess, server: EmbeddedServer, redis: Redis
) -> None:
    sentinel.monitor(server.port)
    await redis.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-@dangerous")
    client = connect(f"redis+sentinel://app:pw@{sentinel.address}/{SERVICE}", Redis)
    assert await Wire(client).run("ACL", "WHOAMI") == b"app"
    await client.aclose(close_connection_pool=True)
    await redis.execute_command("ACL", "DELUSER", "app")


async def test_sentinels_may_have_a_password_of_their_own(server: EmbeddedServer) -> None:
    with SentinelProcess(password="watch") as guarded:
        guarded.monitor(server.port)
        client = connect(f"redis+sentinel://{guarded.address}/{SERVICE}/3?sentinel_password=watch", Redis)
        assert b"db=3" in await Wire(client).run("CLIENT", "INFO")
        await client.aclose(close_connection_pool=True)
        client = connect(f"redis+sentinel://{guarded.address}/{SERVICE}?sentinel_password=wrong", Redis)
        with pytest.raises(StoreUnavailable, match="name no primary"):
            await Wire(client).run("PING")
        await client.aclose(close_connection_pool=True)


async def test_when_one_connection_learns_of_another_primary_all_leave_the_former_one(
    client: Redis, sentinel: SentinelProcess, server: EmbeddedServer, other: EmbeddedServer, prefix: str
) -> None:
    heard: list[bytes | None] = []
    waiting, idle = Wire(client), Subscriptions(Primary(client), lambda _, message: heard.append(message))
    listening = asyncio.ensure_future(idle.run())
    await idle.subscribe(f"{prefix}:bell")
    blocked = asyncio.ensure_future(waiting.run("BLPOP", f"{prefix}:nothing", 4))
    former, direct = connect(server.url, Redis), connect(other.url, Redis)
    try:
        async with asyncio.timeout(20):
            while not any(each["cmd"] == "blpop" for each in await former.client_list()):
                await asyncio.sleep(0.01)

            sentinel.monitor(other.port)
            await follow_primary(client)

            with pytest.raises(StoreUnavailable):
                await blocked
            assert await port_of(waiting) == other.port
            # The subscription that nobody used has moved, too, and says that something may have been missed.
            while not await direct.publish(f"{prefix}:bell", b"from the new one"):
                await asyncio.sleep(0.01)
            while heard[-1] != b"from the new one":
                await asyncio.sleep(0.01)
        assert heard[:2] == [None, None]
        assert await former.pubsub_numsub(f"{prefix}:bell") == [(f"{prefix}:bell".encode(), 0)]
    finally:
        for task in (listening, blocked):
            task.cancel()
        await asyncio.gather(listening, blocked, return_exceptions=True)
        for each in (direct, former):
            await each.aclose(close_connection_pool=True)
