"""The client's own HTTP, over real sockets and TLS, on both event loops."""

import asyncio
import gc
import gzip
import logging
import os
import socket
import ssl
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tailplane.client import Client, ClientOptions, ConnectionLost, ReconnectPolicy, TailplaneError, direct
from tailplane.client.connection import connect
from tailplane.client.pieces import memory_for_pieces
from tailplane.protocol import codec
from tailplane.protocol.frames import MSGPACK_TYPE

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).parent / "localhost.pem"
HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: {MSGPACK_TYPE}\r\nTransfer-Encoding: chunked\r\n".encode()
NOTHING = codec.pack({"workers": []})

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def chunk(content: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(content), extension, content)


def answer(content: bytes, *lines: str, status: int = 200) -> bytes:
    head = [f"HTTP/1.1 {status} X", "Content-Type: application/msgpack", f"Content-Length: {len(content)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + content


@asynccontextmanager
async def serving(handle: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve connections with `handle`, and await that each one has ended."""
    running: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except RuntimeError:
            # uvloop's word for writing to a connection that is gone.
            if not writer.is_closing():
                raise
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
        # The client is closed by now: none of its connections may still be open.
        async with asyncio.timeout(10):
            await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        server.close()
        await server.wait_closed()


def sends(*pieces: bytes, paused: bool = False) -> Handler:
    """Answer each request with these pieces, and wait until the client leaves."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if paused:
                    await asyncio.sleep(0.001)

    return handle


async def events(port: int, wire: Any, **changes: Any) -> list[Any]:
    async with Client(f"http://127.0.0.1:{port}", options=wire.options(**changes)) as client:
        return list(await wire.collect(client.get_task_result_stream("t_1")))


async def test_a_body_that_comes_with_its_head_is_read_whole(wire: Any) -> None:
    whole = HEAD + b"\r\n" + chunk(wire.entry(2, "a", "b")) + chunk(wire.succeeded(3)) + b"0\r\n\r\n"
    async with serving(sends(whole)) as port:
        assert await events(port, wire) == ["a", "b"]


async def test_an_answer_that_comes_byte_by_byte_is_read_whole(wire: Any) -> None:
    whole = HEAD + b"\r\n" + chunk(wire.entry(2, "a", "b")) + chunk(wire.succeeded(3))
    async with serving(sends(*(whole[at : at + 1] for at in range(len(whole))), paused=True)) as port:
        assert await events(port, wire) == ["a", "b"]


async def test_early_hints_extensions_and_trailers_are_read_over(wire: Any) -> None:
    whole = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"\r\n"
    whole += chunk(wire.entry(1, "a"), b";name=value") + chunk(wire.succeeded(2)) + b"0\r\nTrailer: x\r\n\r\n"
    async with serving(sends(whole)) as port:
        assert await events(port, wire) == ["a"]


@pytest.mark.parametrize("lines", ["Content-Length: {length}", "Connection: close"])
async def test_a_stream_may_come_unchunked(wire: Any, lines: str) -> None:
    body = wire.entry(1, "a") + wire.succeeded(2)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {MSGPACK_TYPE}\r\n{lines.format(length=len(body))}\r\n\r\n"
    async with serving(sends(head.encode() + body)) as port:
        assert await events(port, wire) == ["a"]


@pytest.mark.parametrize("rest", [b"no chunk\r\n", b"5\r\nlonger than five\r\n", b"ffff\r\ncut"])
async def test_a_broken_body_is_a_lost_connection(wire: Any, rest: bytes) -> None:
    tries = iter([HEAD + b"\r\n" + chunk(wire.entry(1, "a")) + rest, HEAD + b"\r\n" + chunk(wire.succeeded(2))])

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(tries))
        await writer.drain()

    async with serving(handle) as port:
        assert await events(port, wire) == ["a"]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_stream_that_is_reset_is_taken_up_again(
    wire: Any, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        seq = len(asked)
        writer.write(HEAD + b"\r\n" + chunk(wire.entry(seq, seq) if seq < 3 else wire.succeeded(seq)))
        await writer.drain()
        if seq == 3:
            return
        await asyncio.sleep(0.02)
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()

    async with serving(handle, tls() if encrypted else None) as port:
        url = f"{'https' if encrypted else 'http'}://localhost:{port}"
        async with Client(url, options=wire.options()) as client:
            assert await wire.collect(client.get_task_result_stream("t_1")) == [1, 2]
    assert [target.partition(b"from=")[2] for target in asked] == [b"0", b"1", b"2"]


async def test_what_comes_after_the_terminal_event_does_not_matter(wire: Any) -> None:
    async with serving(sends(HEAD + b"\r\n" + chunk(wire.succeeded(1)) + b"no chunk\r\n" * 100_000)) as port:
        assert await events(port, wire) == []


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_full_buffer_leaves_the_socket_unread_until_there_is_room(
    wire: Any, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    entries, sent = 400, 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"\r\n")
        for seq in range(1, entries + 1):
            writer.write(chunk(wire.entry(seq, b"x" * 100_000)))
            await writer.drain()
            sent = seq
        writer.write(chunk(wire.succeeded(entries + 1)))
        await reader.read()

    async with serving(flood, tls() if encrypted else None) as port:
        url = f"{'https' if encrypted else 'http'}://localhost:{port}"
        async with Client(url, options=wire.options(buffer_bytes=500_000)) as client:
            stream = client.get_task_result_stream("t_1")
            await anext(stream)
            async with asyncio.timeout(wire.patience_s):
                before = -1
                while before != sent or not stream._buffer.is_full:
                    before = sent
                    await asyncio.sleep(0.05)
            assert sent < entries
            assert stream._buffer.size_bytes <= 500_000 + 2 * 100_000
            assert 1 + len(await wire.collect(stream)) == entries


async def test_a_stream_can_be_closed_while_its_socket_is_unread(wire: Any) -> None:
    left = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"\r\n")
        try:
            for seq in range(1, 10_000):
                writer.write(chunk(wire.entry(seq, b"x" * 100_000)))
                await writer.drain()
        finally:
            left.set()

    async with (
        serving(flood) as port,
        Client(f"http://127.0.0.1:{port}", options=wire.options(buffer_bytes=1)) as client,
    ):
        stream = client.get_task_result_stream("t_1")
        await anext(stream)
        while not stream._buffer.is_full:
            await asyncio.sleep(0.001)
        await stream.aclose()
        await asyncio.wait_for(left.wait(), wire.patience_s)


async def test_a_held_stream_is_not_taken_for_a_silent_one(wire: Any) -> None:
    connections = 0
    is_held, rest, has_written = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Tailplane-Keep-Alive-Ms: 20\r\n\r\n" + chunk(wire.entry(1, "a")))
        seq = 1
        # However slow the machine is, it is not silent before it is held.
        while not is_held.is_set():
            seq += 1
            writer.write(chunk(wire.entry(seq, "b")))
            await asyncio.sleep(0.005)
        await rest.wait()
        writer.write(chunk(wire.succeeded(seq + 1)))
        has_written.set()
        await reader.read()

    options = wire.options(buffer_bytes=1)
    async with serving(handle) as port, Client(f"http://127.0.0.1:{port}", options=options) as client:
        stream = client.get_task_result_stream("t_1")
        assert await anext(stream) == "a"
        while not stream._buffer.is_full:
            await asyncio.sleep(0.001)
        is_held.set()
        await asyncio.sleep(0.5)  # well over the 60 ms after which silence means death
        rest.set()
        await has_written.wait()
        assert set(await wire.collect(stream)) == {"b"}
    assert connections == 1


async def test_connections_are_used_again_while_they_stand(wire: Any) -> None:
    connections = 0
    last = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(NOTHING))
        last.set()

    async with serving(handle) as port, Client(f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert await client.workers() == []
        await last.wait()
        await asyncio.sleep(0.05)
        assert await client.workers() == []
    assert connections == 2


async def test_writing_to_a_connection_that_has_ended_is_told_by_reading(wire: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"goodbye")

    async with serving(handle) as port:
        connection = await connect("127.0.0.1", port, None, 5, memory_for_pieces(None))
        async with asyncio.timeout(wire.patience_s):
            while not (connection.transport is not None and connection.transport.is_closing()):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        await connection.write(b"hello", 5)
        assert await connection.read(5) == b"goodbye"
        assert await connection.read(5) == b""
        connection.close()


@pytest.mark.parametrize("lines", ["Connection: close", "X: y"])
async def test_a_connection_that_is_of_no_more_use_is_closed(lines: str) -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(NOTHING, lines) + (b"what nobody asked for" if lines == "X: y" else b""))
        await reader.read()

    async with serving(handle) as port, Client(f"http://127.0.0.1:{port}") as client:
        for _ in range(2):
            assert await client.workers() == []
    assert connections == 2


async def test_a_cancelled_request_closes_its_connection(wire: Any) -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    async with serving(silent) as port, Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.workers()
        await asyncio.wait_for(left.wait(), wire.patience_s)


async def test_a_long_request_and_a_long_answer_go_through_in_pieces() -> None:
    task = {"task_id": "t_1", "workflow": "w", "state": "succeeded", "created_at": 1.0}
    size = 20_000_000
    received = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        await asyncio.sleep(0.05)
        received = len(await reader.readexactly(length))
        writer.write(answer(codec.pack(task), status=202))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(codec.pack(task | {"result": b"y" * size})))
        await reader.read()

    async with serving(handle) as port, Client(f"http://127.0.0.1:{port}") as client:
        submitted = await client.run_workflow("w", b"x" * size)
        assert received > size
        assert await submitted.result() == b"y" * size


async def test_packed_answers_are_unpacked_and_unknown_packings_told() -> None:
    packings = iter(["gzip", "br", "gzip"])

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            assert b"accept-encoding: gzip\r\n" in head
            packing = next(packings)
            content = gzip.compress(NOTHING)
            writer.write(answer(content, f"Content-Encoding: {packing}"))

    async with serving(handle) as port, Client(f"http://127.0.0.1:{port}") as client:
        assert await client.workers() == []
        # Repeated as any answer that can't be read.
        assert await client.workers() == []


@pytest.mark.parametrize("broken", ["large", "large when unpacked", "dripping"])
async def test_an_answer_without_end_is_given_up(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "MOST_BYTES", 50_000)
    monkeypatch.setattr(direct, "LONGEST_BODY_S", 0.2)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            if broken == "large":
                writer.write(answer(b"x" * 1_000_000))
            elif broken == "large when unpacked":
                writer.write(answer(gzip.compress(b"x" * 1_000_000), "Content-Encoding: gzip"))
            else:
                writer.write(answer(b"")[:-3].replace(b"Length: 0", b"Length: 9999") + b"\n\r\n")
                for _ in range(1000):
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.01)

    options = ClientOptions(retry_for=timedelta(seconds=0.1))
    async with serving(handle) as port, Client(f"http://127.0.0.1:{port}", options=options) as client:
        with pytest.raises(ConnectionLost, match="over 50000 bytes"):
            await client.workers()


@pytest.mark.parametrize("said", ["502 X", "404 X", "200 X"])
async def test_a_password_in_the_url_stays_out_of_errors_and_the_log(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(f"HTTP/1.1 {said}\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno".encode())

    policy = ReconnectPolicy(give_up_after=timedelta(seconds=0.2))
    options = ClientOptions(retry_for=timedelta(seconds=0.2), reconnect=policy)
    caplog.set_level(logging.DEBUG)
    async with serving(handle) as port, Client(f"http://me:hunter2@127.0.0.1:{port}", options=options) as client:
        with pytest.raises(TailplaneError) as asked:
            await client.workers()
        with pytest.raises(TailplaneError) as read:
            [event async for event in client.task("t_1").events()]
    for error in (asked.value, read.value):
        assert "hunter2" not in "".join(traceback.format_exception(error))
    assert "hunter2" not in caplog.text


async def test_a_head_that_drips_has_the_deadline_of_an_answer() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            for _ in range(1000):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)

    options = ClientOptions(retry_for=timedelta(seconds=0), answer_timeout=timedelta(seconds=0.3))
    async with serving(handle) as port, Client(f"http://127.0.0.1:{port}", options=options) as client:
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionLost, match="no answer came in time"):
                await client.workers()


async def test_a_password_in_the_url_and_headers_of_the_client_are_sent(wire: Any) -> None:
    heads: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads.append(head.decode().lower())
            writer.write(answer(NOTHING))

    async with serving(handle) as port:
        url = f"http://user:p%40ss@127.0.0.1:{port}/base"
        async with Client(url, headers={"User-Agent": "me", "X-Team": "a"}) as client:
            await client.workers()
    (head,) = heads
    assert head.startswith("get /base/v1/workers http/1.1\r\n")
    for line in (f"host: 127.0.0.1:{port}", "authorization: basic dxnlcjpwqhnz", "user-agent: me", "x-team: a"):
        assert f"\r\n{line}\r\n" in head


async def test_a_trusted_certificate_is_accepted(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    whole = HEAD + b"\r\n" + chunk(wire.entry(1, "a")) + chunk(wire.succeeded(2))
    async with serving(sends(whole), tls()) as port:
        for host in ("localhost", "127.0.0.1"):
            async with Client(f"https://{host}:{port}", options=wire.options()) as client:
                assert await wire.collect(client.get_task_result_stream("t_1")) == ["a"]


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.2", True)])
async def test_a_certificate_that_is_not_trusted_or_not_the_hosts_is_refused(
    wire: Any, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with serving(sends(answer(NOTHING)), tls()) as port:
        # 127.0.0.2 is this machine as well, and not in the certificate.
        other = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.2", 0, ssl=tls())
        async with other:
            asked = port if host == "localhost" else other.sockets[0].getsockname()[1]
            async with Client(f"https://{host}:{asked}", options=wire.options(retry_for=timedelta(0))) as client:
                with pytest.raises(ConnectionLost, match=r"(?i)certificate"):
                    await client.workers()


async def test_a_handshake_that_is_not_answered_is_given_up(wire: Any) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    options = wire.options(connect_timeout=timedelta(milliseconds=50), retry_for=timedelta(0))
    async with serving(silent) as port, Client(f"https://127.0.0.1:{port}", options=options) as client:
        with pytest.raises(ConnectionLost, match="ConnectTimeout"):
            await client.workers()


async def test_a_peer_that_does_not_speak_http_is_told_as_such(wire: Any) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        await reader.read()

    options = wire.options(retry_for=timedelta(0))
    async with serving(other) as port, Client(f"http://127.0.0.1:{port}", options=options) as client:
        with pytest.raises(TailplaneError, match="SSH"):
            await client.workers()


async def test_no_socket_is_left_behind(wire: Any) -> None:
    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    whole = HEAD + b"\r\n" + chunk(wire.entry(1, "a"))
    async with serving(sends(whole)) as port:
        client = Client(f"http://127.0.0.1:{port}", options=wire.options())
        before = open_files()
        streams = [client.get_task_result_stream(f"t_{number}") for number in range(20)]
        for stream in streams:
            await anext(stream)
        waiting = [asyncio.create_task(anext(stream)) for stream in streams]
        await asyncio.sleep(0)
        await streams[0].aclose()
        waiting[1].cancel()
        await client.aclose()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(each, ConnectionLost | asyncio.CancelledError) for each in results)
        async with asyncio.timeout(wire.patience_s):
            while open_files() > before:
                await asyncio.sleep(0.01)
