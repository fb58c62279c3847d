"""The tests' own proxy passes on what the sides do, and breaks connections in the ways that it promises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.proxy import Proxy, reset_at_close, serving

PATIENCE = 10.0
# Long enough that what is not held back would have come.
SHORTLY = 0.2


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line with itself; at the line `die`, reset the connection."""
    with contextlib.suppress(ConnectionResetError):
        while line := await reader.readline():
            if line == b"die\n":
                reset_at_close(writer)
                break
            writer.write(line)
    writer.transport.abort()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listening = await asyncio.start_server(_serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


async def _connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def _echo(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], line: bytes = b"hello\n") -> bytes:
    reader, writer = connection
    writer.write(line)
    return await asyncio.wait_for(reader.readline(), PATIENCE)


async def test_what_is_sent_arrives(port: int) -> None:
    async with serving(Proxy(port)) as proxy:
        connection = await _connect(proxy)
        assert await _echo(connection) == b"hello\n"
        connection[1].close()


async def test_a_cut_resets_what_stands_and_lets_others_come(port: int) -> None:
    async with serving(Proxy(port)) as proxy:
        connection = await _connect(proxy)
        await _echo(connection)
        assert proxy.cut() == 2
        with pytest.raises(ConnectionResetError):
            await _echo(connection)
        again = await _connect(proxy)
        assert await _echo(again) == b"hello\n"
        again[1].close()


async def test_a_silent_proxy_holds_back_and_then_passes_on(port: int) -> None:
    async with serving(Proxy(port)) as proxy:
        connection = await _connect(proxy)
        await _echo(connection)
        proxy.hold()
        waiting = asyncio.ensure_future(_echo(connection))
        await asyncio.wait({waiting}, timeout=SHORTLY)
        assert not waiting.done()
        proxy.release()
        assert await waiting == b"hello\n"
        connection[1].close()


async def test_a_refusing_proxy_resets_who_comes(port: int) -> None:
    async with serving(Proxy(port)) as proxy:
        proxy.refuses = True
        with pytest.raises(ConnectionResetError):
            await _echo(await _connect(proxy))


async def test_a_reset_by_one_side_is_passed_on(port: int) -> None:
    async with serving(Proxy(port)) as proxy:
        connection = await _connect(proxy)
        await _echo(connection)
        with pytest.raises(ConnectionResetError):
            await _echo(connection, b"die\n")


async def test_a_target_that_is_gone_is_passed_over(port: int) -> None:
    gone = await asyncio.start_server(_serve, "127.0.0.1", 0)
    nobody = gone.sockets[0].getsockname()[1]
    gone.close()
    await gone.wait_closed()
    async with serving(Proxy(nobody, port)) as proxy:
        for _ in range(2):
            connection = await _connect(proxy)
            assert await _echo(connection) == b"hello\n"
            connection[1].close()
