"""A control plane of these tests' own: a real server on loopback that does, request by request, what a test tells it.

The n-th request gets the n-th step of the script. A step may answer, stream, stall, cut or reset; a request that the
script does not foresee fails the test.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from tailplane.client import Client, ClientOptions, ReconnectPolicy
from tailplane.protocol import codec
from tailplane.protocol.events import PlatformType, join_events, pack_event, pack_platform_event
from tailplane.protocol.frames import KEEP_ALIVE, MSGPACK_TYPE, encode_frame, encode_notice
from tailplane.protocol.ids import EntryId

#: Generous: a test that hangs for so long has failed, and none that passes comes near it.
PATIENCE_S = 20

TASK = {"task_id": "t_1", "workflow": "words", "state": "queued", "created_at": 1.0}
SESSION = {"session_id": "s_1", "created_at": 1.0, "closed": False, "metadata": {}}


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, head: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line, *lines = head.split("\r\n")
        self.method, target, _ = request_line.split(" ")
        url = urlsplit(target)
        self.path = unquote(url.path)
        self.query = dict(parse_qsl(url.query))
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        self.body = codec.unpack(body) if body else None
        self._reader = reader
        self._writer = writer

    async def answer(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        await self._respond(status, "application/msgpack", codec.pack(value), headers)

    async def problem(self, status: int, code: str = "", headers: dict[str, str] | None = None, **more: Any) -> None:
        document = (
            {"detail": f"a problem of status {status}", "status": status} | ({"code": code} if code else {}) | more
        )
        await self._respond(status, "application/problem+json", json.dumps(document).encode(), headers)

    async def start_stream(self, keep_alive_ms: int = 60_000, **headers: str) -> None:
        lines = {"Content-Type": MSGPACK_TYPE, "Tailplane-Keep-Alive-Ms": str(keep_alive_ms)}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._writer.write(f"HTTP/1.1 200 OK\r\n{text}Transfer-Encoding: chunked\r\n\r\n".encode())
        await self.send(KEEP_ALIVE)

    async def send(self, *raw: bytes) -> None:
        for each in raw:
            self._writer.write(b"%x\r\n" % len(each) + each + b"\r\n")
            await self._writer.drain()

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def stream(self, *raw: bytes, keep_alive_ms: int = 60_000) -> None:
        """A whole response: head, these bytes, end."""
        await self.start_stream(keep_alive_ms)
        await self.send(*raw)
        await self.end()

    async def cut(self) -> None:
        """Close the connection in the middle of the response."""
        self._writer.close()

    async def reset(self) -> None:
        """Close it with a RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def client_leaves(self) -> None:
        """Wait until the client has closed the connection."""
        with suppress(ConnectionError):
            await self._reader.read()

    async def _respond(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None) -> None:
        text = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{text}\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()


Step = Callable[[Exchange], Awaitable[None]]


class ScriptedServer:
    """Plays a script; `requests` holds what was asked so far."""

    def __init__(self) -> None:
        self.requests: list[Exchange] = []
        self.errors: list[BaseException] = []
        self.url = ""
        self._steps: list[Step] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def play(self, *steps: Step) -> None:
        self._steps += steps

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self.errors:
            raise self.errors[0]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                await self._serve_one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client closed an idle connection, or the test is over
        except Exception as error:
            self.errors.append(error)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")), "0"
        )
        exchange = Exchange(head, await reader.readexactly(int(length)), reader, writer)
        self.requests.append(exchange)
        if len(self.requests) > len(self._steps):
            raise AssertionError(
                f"request {len(self.requests)} is not in the script: {exchange.method} {exchange.path}"
            )
        await self._steps[len(self.requests) - 1](exchange)


class Wire:
    """What a control plane may put on the wire, and steps that are used often."""

    keep_alive = KEEP_ALIVE
    task = TASK
    session = SESSION
    patience_s = PATIENCE_S

    @staticmethod
    def entry(last_seq: int, *data: object, fence: int = 1) -> bytes:
        return encode_frame(EntryId(fence, last_seq), join_events([pack_event(each) for each in data]))

    @staticmethod
    def platform(seq: int, type_: PlatformType, data: object) -> bytes:
        return encode_frame(EntryId(1, seq), join_events([pack_platform_event(type_, data)]))

    @classmethod
    def succeeded(cls, seq: int, result: object = None) -> bytes:
        return cls.platform(seq, PlatformType.SUCCEEDED, {"result": result})

    @staticmethod
    def notice(**values: Any) -> bytes:
        return encode_notice(values)

    @staticmethod
    def streams(*raw: bytes, keep_alive_ms: int = 60_000) -> Step:
        return lambda exchange: exchange.stream(*raw, keep_alive_ms=keep_alive_ms)

    @staticmethod
    def answers(value: object, status: int = 200) -> Step:
        return lambda exchange: exchange.answer(value, status)

    @staticmethod
    def refuses(status: int, code: str = "", headers: dict[str, str] | None = None, **more: Any) -> Step:
        return lambda exchange: exchange.problem(status, code, headers, **more)

    @staticmethod
    async def collect(stream: Any) -> list[Any]:
        async with asyncio.timeout(PATIENCE_S):
            return [item async for item in stream]

    @staticmethod
    def options(**changes: Any) -> ClientOptions:
        """Options that retry at once and give up soon."""
        policy = ReconnectPolicy(
            base=timedelta(milliseconds=1), cap=timedelta(milliseconds=5), give_up_after=timedelta(seconds=10)
        )
        usual = {"answer_timeout": timedelta(seconds=10), "retry_for": timedelta(seconds=10), "reconnect": policy}
        return ClientOptions(**(usual | changes))


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def server(anyio_backend: Any) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def client(server: ScriptedServer, wire: Wire) -> AsyncIterator[Client]:
    async with Client(server.url, options=wire.options()) as client:
        yield client


@pytest.fixture
def new_server() -> type[ScriptedServer]:
    """The server's class, for tests that run it on a loop of their own."""
    return ScriptedServer
