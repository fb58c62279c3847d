"""Requests: what is repeated, what is not, and what comes out of it."""

import asyncio
import logging
import traceback
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tailplane.client import (
    Client,
    ConnectionLost,
    IdempotencyConflict,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    StoreUnavailable,
    TailplaneError,
    TooManyReaders,
    Unserialisable,
)
from tailplane.client.outage import Outage
from tailplane.client.transport import path
from tailplane.protocol.urls import is_loopback

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_this_machine_is_known_by_name_and_address(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "localhost.example.com", "2001:db8::1", ""])
def test_other_machines_are_not_this_one(host: str) -> None:
    assert not is_loopback(host)


def test_what_callers_pass_in_stays_in_its_part_of_the_path() -> None:
    assert path("tasks", "../workers?x=1#y", "cancel") == "/v1/tasks/..%2Fworkers%3Fx%3D1%23y/cancel"


@pytest.mark.parametrize("url", ["127.0.0.1:8420", "redis://host", "http://", "ftp://host", "/v1"])
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL of a control plane"):
        Client(url)


@pytest.mark.parametrize(("url", "shown"), [("localhost:8420", "localhost:8420"), ("app:hunter2@host", r"\*\*\*@host")])
def test_a_url_without_a_scheme_is_named_as_it_was_given(url: str, shown: str) -> None:
    with pytest.raises(ValueError, match=f"^'{shown}' is not the URL of a control plane"):
        Client(url)


async def test_a_submit_is_repeated_under_the_same_key_until_it_is_taken(
    server: Any, client: Client, wire: Any
) -> None:
    async def cut(exchange: Any) -> None:
        await exchange.cut()

    async def reset(exchange: Any) -> None:
        await exchange.reset()

    server.play(
        cut,
        reset,
        wire.refuses(503, "store_unavailable", {"Retry-After": "0"}),
        wire.refuses(429, "queue_full", {"Retry-After": "0"}),
        wire.answers(wire.task, 202),
    )

    task = await client.run_workflow("words", {"n": 1, "raw": b"\xff"}, metadata={"team": "a"})

    assert (task.task_id, task.workflow) == ("t_1", "words")
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    for request in server.requests:
        assert (request.method, request.path) == ("POST", "/v1/tasks")
        assert request.headers["content-type"] == request.headers["accept"] == "application/msgpack"
        assert request.body == {"workflow": "words", "input": {"n": 1, "raw": b"\xff"}, "metadata": {"team": "a"}}


async def test_each_submit_has_a_key_of_its_own_unless_the_caller_brings_one(
    server: Any, client: Client, wire: Any
) -> None:
    server.play(*[wire.answers(wire.task, 202)] * 3)
    await client.run_workflow("words")
    await client.run_workflow("words")
    await client.run_workflow("words", idempotency_key="order-7")

    first, second, third = (request.headers["idempotency-key"] for request in server.requests)
    assert first != second
    assert third == "order-7"


async def test_a_no_is_raised_as_its_class_and_not_asked_again(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.refuses(409, "idempotency_conflict"))

    with pytest.raises(IdempotencyConflict):
        await client.run_workflow("words", idempotency_key="order-7")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (429, "queue_full", QueueFull),
        (429, "rate_limited", RateLimited),
        (429, "too_many_readers", TooManyReaders),
        (429, "quota_exceeded", QuotaExceeded),
        (503, "store_unavailable", StoreUnavailable),
    ],
)
async def test_a_later_that_lies_past_the_deadline_is_raised_at_once(
    server: Any, client: Client, wire: Any, status: int, code: str, error: type[Exception]
) -> None:
    server.play(wire.refuses(status, code, {"Retry-After": "3600"}))

    with pytest.raises(error) as caught:
        await client.run_workflow("words")
    assert caught.value.retry_after == 3600


async def test_nobody_there_is_told_after_the_time_for_retries(server: Any, wire: Any) -> None:
    await server.stop()

    async with Client(server.url, options=wire.options(retry_for=timedelta(milliseconds=50))) as client:
        with pytest.raises(ConnectionLost, match=server.url):
            await client.run_workflow("words")


async def test_a_control_plane_that_cannot_be_reached_is_warned_of_once(
    wire: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = wire.options(retry_for=timedelta(milliseconds=50))
    async with Client("http://me:hunter2@127.0.0.1:1", options=options) as client:
        with caplog.at_level(logging.WARNING, "tailplane.client"):
            for _ in range(2):
                with pytest.raises(ConnectionLost):
                    await client.workers()
    (record,) = caplog.records
    assert record.getMessage().endswith("@127.0.0.1:1 can't be reached: trying for 0.05 s")
    assert "hunter2" not in record.getMessage()


def test_an_answer_ends_an_outage_and_only_a_failed_connect_begins_one(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("http://host")
    for error in (httpx2.ReadError("cut"), httpx2.ConnectError("no"), httpx2.ConnectTimeout("late")):
        outage.failed(error, None)
    assert len(caplog.records) == 1
    outage.answered()
    outage.failed(httpx2.ConnectError("no"), None)
    away, back = (
        "the control plane at http://host can't be reached: trying until it can",
        "the control plane at http://host is reached again",
    )
    assert [record.getMessage() for record in caplog.records] == [away, back, away]


async def test_the_last_word_about_nobody_there_is_one_error_that_says_how_to_mend_it(wire: Any) -> None:
    async with Client("http://127.0.0.1:1", options=wire.options(retry_for=timedelta(milliseconds=50))) as client:
        with pytest.raises(ConnectionLost, match="ConnectError") as caught:
            await client.workers()
    told = "".join(traceback.format_exception(caught.value))
    assert told.count("Traceback") == 1
    assert "httpx2/" not in told
    assert told.endswith("says where another is\n")
    assert "is a control plane running at http://127.0.0.1:1? `tailplane dev` starts one" in (caught.value.hint or "")


async def test_an_answer_that_never_comes_is_asked_for_again(server: Any, wire: Any) -> None:
    async def silent(exchange: Any) -> None:
        await exchange.client_leaves()

    server.play(silent, wire.answers(wire.task, 202))

    async with Client(server.url, options=wire.options(answer_timeout=timedelta(milliseconds=50))) as client:
        assert (await client.run_workflow("words")).task_id == "t_1"


async def test_an_input_that_msgpack_cannot_carry_is_refused_before_anything_is_sent(client: Client) -> None:
    with pytest.raises(Unserialisable):
        await client.run_workflow("words", object())


async def test_an_answer_of_another_shape_is_told_as_such(server: Any, client: Client, wire: Any) -> None:
    async def page(exchange: Any) -> None:
        await exchange._respond(200, "text/html; charset=utf-8", b"<html>", None)

    async def broken(exchange: Any) -> None:
        await exchange._respond(200, "application/msgpack", b"\xc1", None)

    server.play(wire.answers({"hello": 1}), page, broken)

    with pytest.raises(TailplaneError, match="no WorkerList"):
        await client.workers()
    with pytest.raises(TailplaneError, match="text/html"):
        await client.workers()
    with pytest.raises(TailplaneError, match="can't be decoded"):
        await client.workers()


async def test_json_answers_are_understood(server: Any, client: Client, wire: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange._respond(200, "application/json", b'{"workers": []}', None)

    server.play(answer)

    assert await client.workers() == []


async def test_a_proxy_of_the_environment_is_not_asked_about_this_machine(
    server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.play(wire.answers({"workers": []}))

    async with Client(server.url, options=wire.options(retry_for=timedelta(0))) as client:
        assert await client.workers() == []


async def test_a_proxy_of_the_environment_is_asked_about_others(
    server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.play(wire.answers({"workers": []}))

    async with Client("http://tailplane.invalid", options=wire.options(retry_for=timedelta(0))) as client:
        assert await client.workers() == []
    assert server.requests[0].headers["host"] == "tailplane.invalid"


async def test_headers_of_the_client_and_a_path_in_its_url_are_used_everywhere(server: Any, wire: Any) -> None:
    server.play(wire.answers({"workers": []}), wire.streams(wire.succeeded(1)))

    async with Client(f"{server.url}/team/", headers={"Authorization": "Bearer x"}) as client:
        await client.workers()
        await wire.collect(client.get_task_result_stream("t_1"))

    assert [request.path for request in server.requests] == ["/team/v1/workers", "/team/v1/tasks/t_1/events"]
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer x"}


async def test_a_closed_client_asks_nothing_more() -> None:
    client = Client("http://127.0.0.1:1")
    await client.aclose()

    with pytest.raises(RuntimeError, match="closed"):
        await client.workers()


def test_a_client_belongs_to_one_event_loop_at_a_time(wire: Any) -> None:
    options = wire.options(retry_for=timedelta(milliseconds=50))
    client = Client("http://127.0.0.1:1", options=options)

    async def ask() -> str:
        try:
            await client.workers()
        except (ConnectionLost, RuntimeError) as error:
            return type(error).__name__
        return "answered"

    async def ask_here_and_in_a_thread() -> list[str]:
        return [await ask(), await asyncio.to_thread(asyncio.run, ask()), await ask()]

    assert asyncio.run(ask_here_and_in_a_thread()) == ["ConnectionLost", "RuntimeError", "ConnectionLost"]
    # A loop that has ended stands in nobody's way.
    assert asyncio.run(ask()) == "ConnectionLost"
