"""The shared connection: each caller gets its own replies, within a deadline, whatever happens to the others."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tailplane.broker import connect, store_errors
from tailplane.broker import wire as wire_module
from tailplane.broker.wire import Wire
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.errors import StoreUnavailable


@pytest.fixture
async def wire(redis: Redis) -> Wire:
    """A wire of the shared server, which has connected; closed with `redis`."""
    wire = Wire(redis)
    await wire.run("CLIENT", "SETNAME", "wire")
    return wire


async def kill(redis: Redis) -> None:
    """Kill the wire's connection."""
    (client,) = [client for client in await redis.client_list() if client["name"] == "wire"]
    await redis.client_kill_filter(_id=client["id"])


async def test_each_of_many_callers_gets_its_own_replies(wire: Wire) -> None:
    async def ask(number: int) -> list[Any]:
        return await wire.call([("ECHO", number), ("ECHO", f"{number}b")])

    replies = await asyncio.gather(*(ask(number) for number in range(500)))
    assert replies == [[str(n).encode(), f"{n}b".encode()] for n in range(500)]


async def test_callers_who_come_while_it_connects_share_the_connection(redis: Redis) -> None:
    wire = Wire(redis)
    before = len(await redis.client_list())
    assert await asyncio.gather(*(wire.run("ECHO", n) for n in range(50))) == [str(n).encode() for n in range(50)]
    assert len(await redis.client_list()) == before + 1


async def test_a_refused_command_leaves_the_others_alone(wire: Wire) -> None:
    first, refused, last = await wire.call([("ECHO", "a"), ("NONSENSE",), ("ECHO", "b")])
    assert (first, last) == (b"a", b"b")
    assert isinstance(refused, ResponseError)
    with pytest.raises(ResponseError, match="unknown command"):
        await wire.run("NONSENSE")


async def test_no_commands_need_no_reply(wire: Wire) -> None:
    assert await wire.call([]) == []


async def test_a_caller_who_is_cancelled_takes_nobody_else_s_reply(wire: Wire, redis: Redis) -> None:
    await redis.execute_command("CLIENT", "PAUSE", 200, "ALL")
    leaves, stays = (asyncio.ensure_future(wire.run("ECHO", text)) for text in ("leaves", "stays"))
    await asyncio.sleep(0.01)
    leaves.cancel()
    assert await stays == b"stays"
    assert leaves.cancelled()


async def test_who_is_cancelled_while_it_connects_stops_nobody(redis: Redis) -> None:
    wire = Wire(redis)
    leaves, stays = (asyncio.ensure_future(wire.run("ECHO", text)) for text in ("leaves", "stays"))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await stays == b"stays"


async def test_a_lost_connection_fails_what_waits_and_is_made_anew(wire: Wire, redis: Redis) -> None:
    blocked = [asyncio.ensure_future(wire.run("BLPOP", f"{n}:nothing", 30)) for n in range(3)]
    await asyncio.sleep(0.05)
    await kill(redis)
    for each in blocked:
        with pytest.raises(StoreUnavailable, match="connection was lost"):
            await each
    assert await wire.run("ECHO", "again") == b"again"


async def test_a_call_has_a_deadline(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "COMMAND_DEADLINE", 0.1)
    monkeypatch.setattr(wire_module, "_WATCH_EVERY", 0.05)
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable):
            await wire.run("BLPOP", "nothing", 30)
    assert await wire.run("ECHO", "again") == b"again"


async def test_without_redis_each_call_is_told_so() -> None:
    nowhere = connect("redis://127.0.0.1:1/0", Redis)
    wire = Wire(nowhere)
    results = await asyncio.gather(*(wire.run("PING") for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 5
    await nowhere.aclose(close_connection_pool=True)


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[int]:
    """Whatever is asked, answer so; give the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_what_is_no_redis_is_one_that_is_away() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        client = connect(f"redis://127.0.0.1:{port}/0", Redis)
        with pytest.raises(StoreUnavailable, match="what does is no Redis"):
            await Wire(client).run("PING")
        await client.aclose(close_connection_pool=True)


async def test_a_server_that_refuses_the_connection_says_why(server: EmbeddedServer) -> None:
    client = connect(f"redis://127.0.0.1:{server.port}/9999", Redis)
    with pytest.raises(StoreUnavailable, match="refuses the connection: DB index is out of range"):
        await Wire(client).run("PING")
    with pytest.raises(StoreUnavailable, match="refuses the connection"), store_errors():
        await client.info()
    await client.aclose(close_connection_pool=True)


async def test_a_refusal_does_not_repeat_the_password() -> None:
    async with answering(b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n") as port:
        client = connect(f"redis://:hunter2@127.0.0.1:{port}/0", Redis)
        with pytest.raises(StoreUnavailable, match="unknown command 'AUTH'") as refused:
            await Wire(client).run("PING")
        await client.aclose(close_connection_pool=True)
    assert "hunter2" not in str(refused.value)


async def test_a_reply_that_is_lost_with_the_connection_is_no_reply(
    proxy: Any, lose_next_reply: Callable[[], None]
) -> None:
    client = connect(f"redis://127.0.0.1:{proxy.port}/0", Redis)
    wire = Wire(client)
    await wire.run("PING")
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await wire.run("ECHO", "lost")
    assert await wire.run("ECHO", "next") == b"next"
    await client.aclose(close_connection_pool=True)


async def test_a_connection_that_is_closed_over_unsent_bytes_gives_nobody_s_reply_to_another(
    server: EmbeddedServer,
) -> None:
    half_closed = asyncio.Event()

    async def serve(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        source, forth = await asyncio.open_connection("127.0.0.1", server.port)

        async def pass_on(data: bytes) -> None:
            forth.write(data)
            await forth.drain()

        async def pass_back() -> None:
            while data := await source.read(65536):
                back.write(data)

        returning = asyncio.ensure_future(pass_back())
        try:
            while data := await client.read(65536):
                if b"$5\r\nlarge" in data and not half_closed.is_set():
                    # Reads no more and says goodbye: what the other side still has to send stays there.
                    back.write_eof()
                    half_closed.set()
                    await asyncio.sleep(30)
                await pass_on(data)
        finally:
            returning.cancel()
            forth.transport.abort()
            back.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        client = connect(f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/0", Redis)
        wire = Wire(client)
        await wire.run("PING")
        lost = asyncio.ensure_future(wire.run("SET", "large", b"x" * 32_000_000))
        await half_closed.wait()
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(wire.run("ECHO", n) for n in range(5))) == [b"0", b"1", b"2", b"3", b"4"]
            with pytest.raises(StoreUnavailable):
                await lost
        assert await wire.run("ECHO", "later") == b"later"
        await client.aclose(close_connection_pool=True)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "serve" in repr(task.get_coro()):
                task.cancel()


async def test_a_server_that_takes_no_writes_is_left_for_another_connection(
    redis: Redis, server: EmbeddedServer
) -> None:
    wire = Wire(redis)
    await wire.run("CLIENT", "SETNAME", "wire")
    before = await wire.run("CLIENT", "ID")
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await wire.run("SET", "a", 1)
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")
    assert await wire.run("CLIENT", "ID") != before


@pytest.fixture
async def own_redis(server: EmbeddedServer) -> AsyncIterator[Redis]:
    """A client that the test closes itself."""
    client = connect(server.url, Redis)
    yield client
    await client.aclose(close_connection_pool=True)


async def test_closing_the_pool_closes_it(own_redis: Redis, redis: Redis) -> None:
    wire = Wire(own_redis)
    await wire.run("CLIENT", "SETNAME", "closing")
    await own_redis.aclose(close_connection_pool=True)
    async with asyncio.timeout(5):
        while any(client["name"] == "closing" for client in await redis.client_list()):
            await asyncio.sleep(0.01)
    del wire
    gc.collect()
