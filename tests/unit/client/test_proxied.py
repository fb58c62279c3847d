"""Through proxies of the environment: plain, and by CONNECT with TLS to the control plane behind it."""

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tailplane.client import Client, ClientOptions
from tailplane.client.direct import DirectHttp
from tailplane.client.proxied import ProxiedHttp
from tailplane.client.route import http_to

from .test_direct import CERTIFICATE, HEAD, NOTHING, answer, chunk, serving, tls

pytestmark = pytest.mark.anyio

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "environment", "way"),
    [
        ("http://tailplane.test", {}, DirectHttp),
        ("http://tailplane.test", {"https_proxy": "http://proxy:1"}, DirectHttp),
        ("http://tailplane.test", {"http_proxy": "http://proxy:1"}, ProxiedHttp),
        ("https://tailplane.test", {"https_proxy": "http://proxy:1"}, ProxiedHttp),
        ("http://tailplane.test", {"ALL_PROXY": "http://proxy:1"}, ProxiedHttp),
        ("http://tailplane.test", {"all_proxy": "http://proxy:1", "no_proxy": ".test"}, DirectHttp),
        ("http://10.1.2.3:8420", {"all_proxy": "http://proxy:1", "no_proxy": "10.0.0.0/8"}, DirectHttp),
        ("http://tailplane.test", {"all_proxy": "http://proxy:1", "no_proxy": "*"}, DirectHttp),
        ("http://127.0.0.1:8420", {"all_proxy": "http://proxy:1"}, DirectHttp),
        ("http://[::1]:8420", {"all_proxy": "http://proxy:1"}, DirectHttp),
    ],
)
async def test_the_environment_says_which_way_requests_go(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], way: type
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    http = http_to(url, ClientOptions(), {})
    assert type(http) is way
    await http.aclose()


async def test_a_stream_comes_through_a_plain_proxy(server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:word@"))
    server.play(wire.streams(wire.entry(2, "a", "b")), wire.streams(wire.entry(3, "c"), wire.succeeded(4)))

    async with Client("http://tailplane.test/team", options=wire.options()) as client:
        assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b", "c"]
    first, second = server.requests
    assert first.headers["host"] == "tailplane.test"
    assert first.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'user:word').decode()}"
    assert (first.path, second.query["from"]) == ("/team/v1/tasks/t_1/events", "2")


async def test_a_slow_consumer_holds_the_proxy_back(server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    entries = [wire.entry(seq, b"x" * 100_000) for seq in range(1, 101)]
    server.play(wire.streams(*entries, wire.succeeded(101)))

    async with Client("http://tailplane.test", options=wire.options(buffer_bytes=200_000)) as client:
        stream = client.get_task_result_stream("t_1")
        await anext(stream)
        for _ in range(500):
            await asyncio.sleep(0)
        assert stream._buffer.size_bytes <= 500_000
        assert 1 + len(await wire.collect(stream)) == 100


async def test_a_proxied_stream_that_falls_silent_or_breaks_is_taken_up_again(
    server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)

    async def silent(exchange: Any) -> None:
        await exchange.start_stream(keep_alive_ms=20)
        await exchange.send(wire.entry(1, "a"))
        await exchange.client_leaves()

    async def cut(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(2, "b"))
        await exchange.cut()

    server.play(silent, cut, wire.streams(wire.succeeded(3)))

    async with Client("http://tailplane.test", options=wire.options()) as client:
        assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b"]


async def test_an_encrypted_control_plane_is_reached_by_connect(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def control_plane(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"/events" in head:
                writer.write(HEAD + b"\r\n" + chunk(wire.entry(1, "a")) + chunk(wire.succeeded(2)) + b"0\r\n\r\n")
            else:
                writer.write(answer(NOTHING))

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.split("\r\n")[0])
        upstream, downstream = await asyncio.open_connection("127.0.0.1", behind)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(forward(reader, downstream))
                group.create_task(forward(upstream, writer))
        finally:
            downstream.close()

    async with serving(control_plane, tls()) as behind, serving(proxy) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(Path(CERTIFICATE)))
        async with Client("https://tailplane.test:8420", options=wire.options()) as client:
            assert await client.workers() == []
            assert await wire.collect(client.get_task_result_stream("t_1")) == ["a"]
    assert set(asked) == {"CONNECT tailplane.test:8420 HTTP/1.1"}


async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
