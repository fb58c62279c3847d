import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from tailplane.client import Client, SessionClosed, StoreUnavailable

pytestmark = pytest.mark.anyio


async def test_the_lines_of_the_readme_run_as_they_stand(
    server: Any, client: Client, wire: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.play(
        wire.answers(wire.session, 201),
        wire.answers(wire.task, 202),
        wire.streams(wire.entry(2, "processing started ...", 42), wire.succeeded(3)),
        wire.answers(wire.session | {"closed": True}),
    )
    input_data = {"text": "x"}

    async with client.start_session() as session:
        task = await session.run_workflow("my_workflow", input_data)
        async for event in session.get_task_result_stream(task.task_id):
            print("live update:", event)  # noqa: T201

    assert capsys.readouterr().out == "live update: processing started ...\nlive update: 42\n"
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/v1/sessions"),
        ("POST", "/v1/sessions/s_1/tasks"),
        ("GET", "/v1/tasks/t_1/events"),
        ("DELETE", "/v1/sessions/s_1"),
    ]
    assert server.requests[3].query == {"cancel": "false"}
    assert "idempotency-key" in server.requests[0].headers


async def test_metadata_and_cancel_on_exit_reach_the_control_plane(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(wire.session | {"metadata": {"user": "7"}}, 201), wire.answers(wire.session))

    async with client.start_session({"user": "7"}, cancel_on_exit=True) as session:
        assert (session.session_id, session.metadata) == ("s_1", {"user": "7"})

    assert server.requests[0].body == {"metadata": {"user": "7"}}
    assert server.requests[1].query == {"cancel": "true"}


async def test_a_session_that_is_opened_for_longer_is_closed_by_nobody(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(wire.session | {"metadata": {"user": "7"}}, 201))

    session = await client.open_session({"user": "7"})
    await client.aclose()

    assert (session.session_id, session.metadata) == ("s_1", {"user": "7"})
    assert [(request.method, request.body) for request in server.requests] == [("POST", {"metadata": {"user": "7"}})]


async def test_an_exception_goes_through_and_the_session_is_closed(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(wire.session, 201), wire.answers(wire.session))

    with pytest.raises(KeyError):
        async with client.start_session():
            raise KeyError("mine")
    assert server.requests[1].method == "DELETE"


async def test_an_exception_is_not_replaced_by_that_of_the_closing(
    server: Any, wire: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(wire.answers(wire.session, 201), wire.refuses(503, "store_unavailable", {"Retry-After": "60"}))

    async with Client(server.url, options=wire.options(close_timeout=timedelta(0))) as client:
        with caplog.at_level(logging.WARNING, "tailplane.client"), pytest.raises(KeyError):
            async with client.start_session():
                raise KeyError("mine")
    assert "session s_1 could not be closed" in caplog.text


async def test_a_session_that_cannot_be_closed_is_told_where_nothing_else_is(
    server: Any, client: Client, wire: Any
) -> None:
    server.play(wire.answers(wire.session, 201), wire.refuses(503, "store_unavailable", {"Retry-After": "3600"}))

    with pytest.raises(StoreUnavailable):
        async with client.start_session():
            pass


async def test_a_session_that_is_gone_is_closed_enough(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(wire.session, 201), wire.refuses(404, "session_not_found"))

    async with client.start_session():
        pass


async def test_a_cancelled_block_still_closes_its_session(server: Any, client: Client, wire: Any) -> None:
    opened, asked, go, deleted = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def cut(exchange: Any) -> None:
        asked.set()
        await go.wait()
        await exchange.cut()

    async def delete(exchange: Any) -> None:
        await exchange.answer(wire.session)
        deleted.set()

    server.play(wire.answers(wire.session, 201), cut, delete)

    async def block() -> None:
        async with client.start_session(cancel_on_exit=True):
            opened.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(block())
    async with asyncio.timeout(wire.patience_s):
        await opened.wait()
        running.cancel()
        await asked.wait()
        # Once more while it closes, as a scope that is cancelled does at every await.
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        go.set()
        await deleted.wait()


async def test_a_closed_session_takes_no_tasks(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.answers(wire.session, 201),
        wire.answers(wire.session | {"closed": True}),
        wire.refuses(409, "session_closed"),
        wire.answers(wire.session | {"closed": True}),
    )

    async with client.start_session() as session:
        assert (await session.close()).closed
        with pytest.raises(SessionClosed):
            await session.run_workflow("words")
