"""A client with a source of credentials: asked when there is none, when one ends, and never by two at a time."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tailplane.client import (
    Client,
    ConnectionLost,
    CredentialExpired,
    StoreUnavailable,
    StreamToken,
    SyncClient,
    Unauthenticated,
)
from tailplane.client.credentials import Credentials, _renewal
from tailplane.protocol import credentials as protocol
from tailplane.protocol.ids import new_key_id, new_task_id
from tailplane.protocol.scopes import Action

WORKERS: dict[str, Any] = {"workers": []}


class Source:
    """Gives credentials in turn, the last one for ever; counts how often it was asked."""

    def __init__(self, *given: str | Exception) -> None:
        self._given = list(given)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        await asyncio.sleep(0)
        given = self._given.pop(0) if len(self._given) > 1 else self._given[0]
        if isinstance(given, Exception):
            raise given
        return given

    def client(self, server: Any, wire: Any, **options: Any) -> Client:
        async def source() -> str:
            return await self()

        return Client(server.url, api_key=source, options=wire.options(**options))


def sent(server: Any) -> list[str]:
    return [request.headers.get("authorization", "").removeprefix("Bearer ") for request in server.requests]


def token(life_s: float) -> str:
    expires_ms = int((time.time() + life_s) * 1000)
    key = new_key_id()
    claims = protocol.StreamToken(
        protocol.new_token_id(key), "default", key, new_task_id(), frozenset({Action.READ}), expires_ms
    )
    return claims.sign(b"s")


async def test_a_source_is_asked_once_and_signs_everything(server: Any, wire: Any) -> None:
    source = Source("a")
    server.play(wire.answers(WORKERS), wire.streams(wire.succeeded(1)), wire.answers(WORKERS))
    async with source.client(server, wire) as client:
        await client.workers()
        await wire.collect(client.get_task_result_stream("t_1"))
        await client.workers()
    assert sent(server) == ["a", "a", "a"]
    assert source.asked == 1


async def test_a_refused_request_is_sent_again_with_a_fresh_credential(server: Any, wire: Any) -> None:
    source = Source("a", "b")
    server.play(wire.answers(WORKERS), wire.refuses(401, "credential_expired"), wire.answers(WORKERS))
    async with source.client(server, wire) as client:
        await client.workers()
        await client.workers()
    assert sent(server) == ["a", "a", "b"]


async def test_a_stream_outlives_its_credential_without_a_loss(server: Any, wire: Any) -> None:
    source = Source("a", "b")
    server.play(
        wire.streams(wire.entry(1, "x"), wire.notice(reconnect_ms=1)),
        wire.refuses(401, "credential_expired"),
        wire.streams(wire.entry(2, "x", "y"), wire.succeeded(3)),
    )
    async with source.client(server, wire) as client:
        assert await wire.collect(client.get_task_result_stream("t_1")) == ["x", "y"]
    assert sent(server) == ["a", "a", "b"]
    assert [request.query["from"] for request in server.requests] == ["0", "1", "1"]


@pytest.mark.parametrize("code", ["credential_expired", "unauthenticated"])
async def test_a_fresh_credential_that_is_refused_is_the_end(server: Any, wire: Any, code: str) -> None:
    source = Source("a", "b", "c")
    server.play(
        wire.answers(WORKERS),
        wire.refuses(401, code),
        wire.refuses(401, code),
        wire.refuses(401, code),
        wire.refuses(401, code),
    )
    async with source.client(server, wire) as client:
        await client.workers()
        with pytest.raises(Unauthenticated):
            await client.workers()
        # Nor does a stream ask for ever.
        with pytest.raises(Unauthenticated):
            await wire.collect(client.get_task_result_stream("t_1"))
    assert sent(server) == ["a", "a", "b", "b"]
    assert source.asked == 2


async def test_who_has_nothing_else_to_give_is_asked_once_more_only(server: Any, wire: Any) -> None:
    source = Source("a")
    server.play(wire.answers(WORKERS), wire.refuses(401, "credential_expired"))
    async with source.client(server, wire) as client:
        await client.workers()
        with pytest.raises(CredentialExpired):
            await client.workers()
    assert source.asked == 2


async def test_many_who_are_refused_at_once_ask_once(server: Any, wire: Any) -> None:
    source, count = Source("a", "b"), 20

    async def step(exchange: Any) -> None:
        if exchange.headers["authorization"] == "Bearer a" and len(server.requests) > 1:
            await exchange.problem(401, "credential_expired")
        else:
            await exchange.stream(wire.entry(1, "x"), wire.succeeded(2))

    server.play(*[step] * (1 + 2 * count))
    async with source.client(server, wire) as client:
        await wire.collect(client.get_task_result_stream("t_1"))
        streams = [wire.collect(client.get_task_result_stream("t_1")) for _ in range(count)]
        assert await asyncio.gather(*streams) == [["x"]] * count
    assert source.asked == 2


async def test_a_token_is_renewed_before_it_ends(server: Any, wire: Any) -> None:
    near, fresh = token(0.5), token(600)
    source = Source(near, fresh)
    server.play(*[wire.answers(WORKERS)] * 2)
    async with source.client(server, wire) as client:
        await client.workers()
        client._link.transport.credentials._renew_at = time.time()
        await client.workers()
    assert sent(server) == [near, fresh]


async def test_what_can_t_be_renewed_early_is_used_to_its_end(
    server: Any, wire: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source("a", RuntimeError("my secret"), "b")
    server.play(*[wire.answers(WORKERS)] * 4)
    async with source.client(server, wire) as client:
        await client.workers()
        credentials = client._link.transport.credentials
        credentials._renew_at = time.time()
        await client.workers()
        # A source that fails is not asked with each request.
        assert credentials._renew_at > time.time()
        await client.workers()
        credentials._renew_at = time.time()
        await client.workers()
    assert sent(server) == ["a", "a", "a", "b"]
    assert "RuntimeError" in caplog.text
    assert "my secret" not in caplog.text


@pytest.mark.parametrize(("life_s", "early_s"), [(600, 30), (100, 20), (10, 2)])
def test_how_early_goes_by_its_life(life_s: float, early_s: float) -> None:
    assert _renewal(token(life_s)) - time.time() == pytest.approx(life_s - early_s, abs=1)


@pytest.mark.parametrize("text", ["tp_key", "tps_x.y", "something"])
def test_nobody_can_tell_when_others_end(text: str) -> None:
    assert _renewal(text) == float("inf")


def test_a_clock_that_is_ahead_makes_no_renewals() -> None:
    assert _renewal(token(-100)) == float("inf")


async def test_what_a_source_raises_is_the_caller_s(server: Any, wire: Any) -> None:
    async with Source(LookupError("nobody is logged in")).client(server, wire) as client:
        with pytest.raises(LookupError, match="nobody is logged in"):
            await client.workers()
        with pytest.raises(LookupError, match="nobody is logged in"):
            await wire.collect(client.get_task_result_stream("t_1"))


async def test_a_source_that_is_away_is_asked_again(server: Any, wire: Any) -> None:
    source = Source(ConnectionRefusedError(), StoreUnavailable(), "a")
    server.play(wire.answers(WORKERS))
    async with source.client(server, wire) as client:
        await client.workers()
    assert (source.asked, sent(server)) == (3, ["a"])


async def test_also_while_a_stream_is_under_way(server: Any, wire: Any) -> None:
    source = Source("a", ConnectionRefusedError(), TimeoutError(), "b")
    server.play(
        wire.streams(wire.entry(1, "x")),
        *[wire.refuses(401, "credential_expired")] * 3,
        wire.streams(wire.entry(2, "y"), wire.succeeded(3)),
    )
    async with source.client(server, wire) as client:
        assert await wire.collect(client.get_task_result_stream("t_1")) == ["x", "y"]
    assert sent(server) == ["a", "a", "a", "a", "b"]


async def test_for_no_longer_than_anything_else(server: Any, wire: Any) -> None:
    source = Source(ConnectionRefusedError("the backend is away"))
    async with source.client(server, wire, retry_for=timedelta(milliseconds=50)) as client:
        with pytest.raises(ConnectionLost, match=r"no credential could be fetched.*the backend is away"):
            await client.workers()
    assert source.asked > 1


async def test_a_source_that_hangs_is_left(server: Any, wire: Any) -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    options = wire.options(answer_timeout=timedelta(milliseconds=20), retry_for=timedelta(0))
    async with Client(server.url, api_key=hang, options=options) as client:
        with pytest.raises(ConnectionLost, match="no credential"):
            await client.workers()


@pytest.mark.parametrize("given", [None, 3, "a\r\nx: y", "\u00e9"])
async def test_what_is_no_credential_is_told(server: Any, wire: Any, given: Any) -> None:
    async with Source(given).client(server, wire) as client:
        with pytest.raises(TypeError, match="source of credentials"):
            await client.workers()


async def test_a_plain_function_runs_in_a_thread(server: Any, wire: Any) -> None:
    threads: list[int] = []

    def source() -> str:
        threads.append(threading.get_ident())
        return "a"

    server.play(wire.answers(WORKERS))
    async with Client(server.url, api_key=source, options=wire.options()) as client:
        await client.workers()
    assert sent(server) == ["a"]
    assert threads != [threading.get_ident()]


async def test_an_authorization_of_the_caller_s_own_counts_more(server: Any, wire: Any) -> None:
    source = Source("a")
    server.play(wire.answers(WORKERS))
    headers = {"Authorization": "Bearer mine"}
    async with Client(server.url, api_key=source, headers=headers, options=wire.options()) as client:
        await client.workers()
    assert (sent(server), source.asked) == (["mine"], 0)


async def test_a_cancelled_fetch_leaves_the_next_one_free() -> None:
    begun = asyncio.Event()

    async def source() -> str:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return "a"

    credentials = Credentials(source)
    first = asyncio.create_task(credentials.current())
    await begun.wait()
    second = asyncio.create_task(credentials.current())
    first.cancel()
    async with asyncio.timeout(20):
        assert await second == "a"


@pytest.fixture
def issued() -> dict[str, Any]:
    return {
        "token": "tps_secret",
        "token_id": "k.1",
        "subject": "t_1",
        "actions": ["read", "answer"],
        "expires_at": 5.5,
        "added_later": 1,
    }


async def test_tokens_are_asked_for_and_revoked(server: Any, client: Client, wire: Any, issued: Any) -> None:
    server.play(
        wire.answers(issued, 201),
        wire.answers(wire.session),
        wire.answers(issued, 201),
        wire.answers(None),
    )
    token = await client.task("t_1").stream_token(actions=["read", Action.ANSWER], expires_in=timedelta(minutes=1))
    session = await client.session("s_1")
    await session.stream_token()
    await client.revoke_token(token.token_id)
    assert token == StreamToken(
        token="tps_secret", token_id="k.1", subject="t_1", actions=[Action.READ, Action.ANSWER], expires_at=5.5
    )
    assert "secret" not in repr(token)
    asked = [(each.method, each.path, each.body) for each in server.requests]
    assert asked[0] == ("POST", "/v1/tasks/t_1/tokens", {"actions": ["read", "answer"], "expires_in": 60.0})
    assert asked[2] == ("POST", "/v1/sessions/s_1/tokens", {"actions": ["read"], "expires_in": 600.0})
    assert asked[3] == ("DELETE", "/v1/tokens/k.1", None)


@pytest.fixture
def blocking(wire: Any) -> Iterator[SyncClient]:
    with SyncClient("http://127.0.0.1:1", api_key=lambda: "a", options=wire.options(retry_for=timedelta(0))) as client:
        yield client


def test_the_blocking_client_takes_a_source_too(blocking: SyncClient) -> None:
    with pytest.raises(ConnectionLost, match="can't be reached"):
        blocking.task("t_1").stream_token()
    with pytest.raises(ConnectionLost, match="can't be reached"):
        blocking.revoke_token("k.1")
    assert blocking._inner._link.transport.credentials._text == "a"
