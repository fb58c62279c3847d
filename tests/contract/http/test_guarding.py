"""The server against clients that mean no good, or know no better: raw sockets, real server."""

import asyncio
import gc
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from tailplane.broker.garbage import Leaver
from tailplane.control_plane import Settings, create_app
from tailplane.control_plane.guarding import GuardedProtocol
from tailplane.control_plane.metrics import registry
from tailplane.control_plane.server import Server

HOST = b"Host: tailplane\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
POST = b"POST /v1/sessions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
BLANK = b"\r\n"
LIMITS = {
    "port": 0,
    "head_timeout": timedelta(seconds=1),
    "body_timeout": timedelta(seconds=1),
    "send_timeout": timedelta(seconds=1),
    "max_head_bytes": 4096,
    "max_url_bytes": 1024,
    "max_headers": 20,
    "max_connections": 5,
    "max_body_bytes": 64 * 1024,
    "max_body_containers": 1000,
}


class Reply(NamedTuple):
    """One answer of a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


class Peer:
    """A connection to the server, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, *, is_head: bool = False) -> Reply:
        """Read the next answer."""
        async with asyncio.timeout(30):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = 0 if is_head else int(headers.get("content-length", 0))
            return Reply(int(status.split()[1]), headers, await self._reader.readexactly(length))

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        async with asyncio.timeout(30):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self._writer.close()


class Guarded:
    """A server with tight limits."""

    def __init__(self, server: Server, app: Any) -> None:
        self._server = server
        self.app = app
        self._peers: list[Peer] = []

    async def connect(self, **options: Any) -> Peer:
        host, port = self._server.servers[0].sockets[0].getsockname()
        peer = Peer(*await asyncio.open_connection(host, port, **options))
        self._peers.append(peer)
        return peer

    async def say(self, *pieces: bytes) -> Peer:
        peer = await self.connect()
        for piece in pieces:
            await peer.send(piece)
        return peer

    def ended(self, reason: str) -> float | None:
        return registry(self.app).get_sample_value("tailplane_connections_ended_total", {"reason": reason})

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not is_so():
                await asyncio.sleep(0.01)

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Guarded]:
    app = create_app(settings)
    server = Server(app, settings)
    running = asyncio.create_task(server.serve())
    guarded = Guarded(server, app)
    await guarded.until(lambda: server.started)
    try:
        yield guarded
    finally:
        guarded.close()
        server.should_exit = True
        await running


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[Guarded]:
    async with serving(settings.model_copy(update=LIMITS)) as guarded:
        yield guarded


def chunked(*chunks: bytes) -> bytes:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + sent + b"0\r\n\r\n"


async def test_a_connection_that_says_nothing_is_closed(guarded: Guarded) -> None:
    peer = await guarded.say()

    assert await peer.rest() == b""
    assert guarded.ended("head_timeout") == 1


async def test_a_head_that_drips_gets_408(guarded: Guarded) -> None:
    peer = await guarded.say(b"GET /healthz HTTP/1.1\r\n")
    began = time.monotonic()

    async def drip() -> None:
        while True:
            await peer.send(b"X: y\r\n")
            await asyncio.sleep(0.3)

    dripping = asyncio.create_task(drip())
    try:
        reply = await peer.reply()
    finally:
        dripping.cancel()

    assert (reply.status, reply.problem["status"], reply.headers["connection"]) == (408, 408, "close")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("tail", [b"", b"\r\n", b"GET /healthz"])
async def test_the_second_head_of_a_connection_has_a_deadline_too(guarded: Guarded, tail: bytes) -> None:
    peer = await guarded.say(GET + BLANK)
    assert (await peer.reply()).status == 200
    if not tail:
        # Whoever is idle between two requests may be so for longer.
        await asyncio.sleep(3)
        await peer.send(GET + BLANK)
        assert (await peer.reply()).status == 200
        return

    await peer.send(tail)

    rest = await peer.rest()
    assert rest == b"" if tail == b"\r\n" else rest.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_stands_still_gets_408(guarded: Guarded) -> None:
    peer = await guarded.say(POST + b"Content-Length: 100\r\n\r\n", b'{"metadata"')

    reply = await peer.reply()

    assert (reply.status, reply.problem["code"]) == (408, "bad_request")
    assert await peer.rest() == b""
    assert guarded.ended("body_timeout") == 1


async def test_a_body_that_drips_gets_408(guarded: Guarded) -> None:
    peer = await guarded.say(POST + b"Transfer-Encoding: chunked\r\n\r\n")

    async def drip() -> None:
        while True:
            await peer.send(b"1\r\n \r\n")
            await asyncio.sleep(0.2)

    dripping = asyncio.create_task(drip())
    try:
        assert (await peer.reply()).status == 408
    finally:
        dripping.cancel()


async def test_a_slow_body_that_makes_progress_is_taken(guarded: Guarded) -> None:
    piece = b" " * 8192
    peer = await guarded.say(POST + b"Content-Length: %d\r\n\r\n" % (4 * len(piece) + 2))
    for _ in range(4):
        await peer.send(piece)
        await asyncio.sleep(0.6)
    await peer.send(b"{}")

    assert (await peer.reply()).status == 201


async def test_a_body_that_nobody_reads_ends_too(guarded: Guarded) -> None:
    peer = await guarded.say(GET + b"Content-Length: 1000000\r\n\r\n")
    assert (await peer.reply()).status == 200

    async def drip() -> None:
        while True:
            await peer.send(b"x" * 4096)
            await asyncio.sleep(0.2)

    dripping = asyncio.create_task(drip())
    try:
        assert await peer.rest() == b""
    finally:
        dripping.cancel()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\n" + HOST + BLANK, 414),
        (b"GET /" + b"x" * 10_000, 414),
        (GET + b"X: " + b"y" * 5000 + b"\r\n\r\n", 431),
        (GET + b"X: " + b"y" * 10_000, 431),
        (GET + b"".join(b"X%d: y\r\n" % n for n in range(30)) + BLANK, 431),
        (GET + b"".join(b"X%d: y\r\n" % n for n in range(3000)), 431),
    ],
)
@pytest.mark.parametrize("piece", [1000, 1_000_000])
async def test_a_head_without_end_is_refused(guarded: Guarded, head: bytes, status: int, piece: int) -> None:
    peer = await guarded.connect()
    for at in range(0, len(head), piece):
        await peer.send(head[at : at + piece])

    reply = await peer.reply()

    assert (reply.status, reply.problem["status"]) == (status, status)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert await peer.rest() == b""


async def test_a_head_with_a_large_body_behind_it_is_taken(guarded: Guarded) -> None:
    body = b'{"metadata": {}}' + b" " * 60_000
    peer = await guarded.say(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    assert (await peer.reply()).status == 201


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: 2, 2\r\n\r\n{}",
        POST + b"Content-Length: +2\r\n\r\n{}",
        POST + b"Content-Length: -2\r\n\r\n{}",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        POST + b"Content-Length : 2\r\n\r\n{}",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Type: application/msgpack\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
        GET + b"Host: other\r\n\r\n",
        GET + b"X: a\r\n folded\r\n\r\n",
        GET + b"X: a\0b\r\n\r\n",
        GET.replace(b"\r\n", b"\n") + b"\n",
        b"GET /healthz HTTP/2.0\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\n" + HOST + BLANK,
        b"GET \xff HTTP/1.1\r\n" + HOST + BLANK,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_what_is_no_clear_request_is_refused_and_nothing_after_it_is_served(
    guarded: Guarded, request_: bytes
) -> None:
    peer = await guarded.say(request_ + GET + BLANK)

    rest = await peer.rest()

    assert rest.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 ")), rest
    assert rest.count(b"HTTP/1.1 ") == 1
    assert b"problem+json" in rest
    assert b"200 OK" not in rest
    assert b"201 Created" not in rest


async def test_trailers_are_no_headers(guarded: Guarded) -> None:
    peer = await guarded.say(chunked(b"{}")[:-2] + b"Content-Encoding: gzip\r\nIdempotency-Key: x\r\n\r\n")

    assert (await peer.reply()).status == 201

    await peer.send(chunked(b"{}")[:-2] + b"X: y\r\n" * 100)
    assert b" 431 " in await peer.rest()


async def test_each_way_to_send_a_body_is_bounded(guarded: Guarded) -> None:
    too_much = b" " * (64 * 1024 + 1)
    peer = await guarded.say(chunked(*[too_much[at : at + 1000] for at in range(0, len(too_much), 1000)]))
    assert (await peer.reply()).status == 413

    peer = await guarded.say(chunked(b'{"metadata"', b": {}}"))
    assert (await peer.reply()).status == 201

    # It announces less than it sends: the rest is another request, and none.
    peer = await guarded.say(POST + b"Content-Length: 2\r\n\r\n{}{}")
    assert (await peer.reply()).status == 201
    assert await peer.rest() == b""


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"identity, gzip"])
async def test_a_packed_body_is_415(guarded: Guarded, coding: bytes) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    peer = await guarded.say(POST + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(bomb)) + bomb)

    reply = await peer.reply()

    assert (reply.status, reply.problem["status"], reply.headers["accept-encoding"]) == (415, 415, "identity")


async def test_a_target_with_a_host_is_that_of_its_path(guarded: Guarded) -> None:
    peer = await guarded.say(b"GET http://elsewhere/healthz HTTP/1.1\r\n" + HOST + BLANK)

    assert (await peer.reply()).status == 200


async def test_http_1_0_is_answered_and_closed(guarded: Guarded) -> None:
    peer = await guarded.say(b"GET /healthz HTTP/1.0\r\n\r\n")

    reply = await peer.reply()

    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert await peer.rest() == b""


async def test_an_offer_to_upgrade_is_served_and_nothing_after_it(guarded: Guarded) -> None:
    peer = await guarded.say(GET + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + GET + BLANK)

    reply = await peer.reply()

    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert await peer.rest() == b""


async def test_requests_sent_ahead_are_answered_in_order_up_to_a_bound(guarded: Guarded) -> None:
    peer = await guarded.say((GET + BLANK) * 3 + b"GET /nowhere HTTP/1.1\r\n\r\n")
    assert [(await peer.reply()).status for _ in range(4)] == [200, 200, 200, 404]

    peer = await guarded.say((GET + BLANK) * 1000)
    rest = await peer.rest()
    assert 1 <= rest.count(b"HTTP/1.1 200 ") <= 10
    assert rest.count(b"HTTP/1.1 ") == rest.count(b"HTTP/1.1 200 ")


async def test_nonsense_sent_ahead_does_not_get_into_the_answer_before_it(guarded: Guarded) -> None:
    peer = await guarded.say(GET + BLANK + b"nonsense\r\n\r\n")

    reply = await peer.reply()

    assert (reply.status, json.loads(reply.body)) == (200, {"status": "ok"})
    assert await peer.rest() == b""


async def test_more_connections_than_the_limit_get_503_and_the_others_go_on(guarded: Guarded) -> None:
    held = [await guarded.say(GET + BLANK) for _ in range(5)]
    for peer in held:
        assert (await peer.reply()).status == 200

    over = await guarded.say(GET + BLANK)
    reply = await over.reply()
    assert (reply.status, reply.problem["code"], reply.headers["retry-after"]) == (503, "unavailable", "1")
    assert await over.rest() == b""
    over = await guarded.say(b"HEAD" + GET.removeprefix(b"GET") + BLANK)
    assert (await over.reply(is_head=True)).status == 503
    assert await over.rest() == b""
    await held[0].send(GET + BLANK)
    assert (await held[0].reply()).status == 200

    held[0].close()
    await guarded.until(lambda: guarded.connections < 5)
    assert (await (await guarded.say(GET + BLANK)).reply()).status == 200
    assert guarded.ended("connections") == 2


async def test_connections_far_over_the_limit_are_closed_at_once(guarded: Guarded) -> None:
    peers = [await guarded.connect() for _ in range(120)]

    assert await peers[-1].rest() == b""
    assert guarded.connections <= 110


async def test_an_answer_that_nobody_reads_is_dropped(settings: Settings) -> None:
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with serving(settings.model_copy(update=LIMITS)) as guarded:
        with small:
            host, port = guarded._server.servers[0].sockets[0].getsockname()
            small.connect((host, port))
            small.setblocking(False)
            # The largest answer there is without a task; the kernel's buffers are larger than one.
            ask = b"GET /openapi.json HTTP/1.1\r\n" + HOST + BLANK
            loop = asyncio.get_running_loop()

            async def ask_on() -> None:
                while True:
                    await loop.sock_sendall(small, ask)
                    await asyncio.sleep(0.005)

            asking = asyncio.create_task(ask_on())
            try:
                await guarded.until(lambda: (guarded.ended("send_timeout") or 0) > 0)
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            await guarded.until(lambda: guarded.connections == 0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/json", b"[" + b"[]," * 2000 + b"1]"),
        (b"application/msgpack", b"\xdc\x07\xd1" + b"\x90" * 2001),
        (b"application/msgpack", b"\xdc\x07\xd1" + b"\x81\x00\x00" * 2001),
        (b"application/json", b"[" * 300 + b"]" * 300),
        (b"application/msgpack", b"\x91" * 300 + b"\xc0"),
    ],
)
async def test_a_bomb_is_422(guarded: Guarded, kind: bytes, body: bytes) -> None:
    head = POST.replace(b"application/json", kind) + b"Content-Length: %d\r\n\r\n" % len(body)
    peer = await guarded.say(head + body)

    reply = await peer.reply()

    assert (reply.status, reply.problem["code"]) == (422, "invalid_request")
    assert "lists and" in reply.problem["detail"] or "levels deep" in reply.problem["detail"]


@pytest.mark.parametrize("host", [b"[", b"[::1", b"]", b"evil.example", b"127.0.0.1.evil", b"a@b:c:d", b"", b"\xff"])
async def test_a_malformed_host_is_no_way_in(settings: Settings, host: bytes) -> None:
    async with serving(settings.model_copy(update=LIMITS | {"auth": None})) as guarded:
        peer = await guarded.say(b"GET /v1/tasks HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        reply = await peer.reply()
        assert (reply.status, reply.problem["code"]) == (403, "forbidden")

        peer = await guarded.say(b"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await peer.reply()).status == 200


async def test_a_connection_that_has_ended_leaves_no_garbage(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    def protocols() -> int:
        return sum(type(each) is GuardedProtocol for each in gc.get_objects())

    # The server collects once in a while.
    monkeypatch.setattr(Leaver, "tick", lambda _: None)
    gc.collect()
    gc.disable()
    try:
        for request_ in (GET + BLANK, GET, b"nonsense\r\n\r\n", POST + b"Content-Length: 9\r\n\r\n", b""):
            peer = await guarded.say(request_)
            if request_ not in (GET, b"") and not request_.startswith(POST):
                await peer.reply()
            peer.close()
        await guarded.until(lambda: guarded.connections == 0 and not protocols())
    finally:
        gc.enable()
