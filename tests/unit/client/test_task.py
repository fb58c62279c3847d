import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tailplane.client import Client, ConnectionLost, ResultPending, State, TaskExpired, TaskFailed, TaskGone

pytestmark = pytest.mark.anyio


async def test_the_result_is_waited_for_over_any_number_of_answers(server: Any, client: Client, wire: Any) -> None:
    async def cut(exchange: Any) -> None:
        await exchange.cut()

    server.play(
        wire.answers(wire.task, 202),
        cut,
        wire.refuses(503, "store_unavailable", {"Retry-After": "0"}),
        wire.answers(wire.task | {"state": "running"}, 202),
        wire.answers(wire.task | {"state": "succeeded", "result": {"raw": b"\x00"}}),
    )

    assert await asyncio.wait_for(client.task("t_1").result(), wire.patience_s) == {"raw": b"\x00"}
    assert {request.path for request in server.requests} == {"/v1/tasks/t_1/result"}
    assert {float(request.query["wait"]) for request in server.requests} == {20}


async def test_a_task_that_ended_badly_raises_instead_of_a_result(server: Any, client: Client, wire: Any) -> None:
    error = {"code": "workflow_error", "type": "builtins.KeyError", "message": "'x'"}
    server.play(
        wire.answers(wire.task | {"state": "failed", "error": error}), wire.answers(wire.task | {"state": "expired"})
    )

    with pytest.raises(TaskFailed, match="KeyError"):
        await client.task("t_1").result()
    with pytest.raises(TaskExpired):
        await client.task("t_1").result()


async def test_a_result_that_is_not_there_in_time_is_pending(server: Any, client: Client, wire: Any) -> None:
    server.play(*[wire.answers(wire.task, 202)] * 1000)

    with pytest.raises(ResultPending, match="t_1 is queued"):
        await client.task("t_1").result(timeout=timedelta(milliseconds=50))
    assert all(float(request.query["wait"]) <= 0.05 for request in server.requests)


async def test_a_timeout_of_zero_asks_once(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(wire.task, 202), wire.answers(wire.task | {"state": "succeeded", "result": 7}))

    with pytest.raises(ResultPending):
        await client.task("t_1").result(timeout=0)
    assert await client.task("t_1").result(timeout=0) == 7


async def test_nobody_there_within_the_timeout_is_pending_with_its_cause(server: Any, client: Client) -> None:
    await server.stop()

    with pytest.raises(ResultPending) as caught:
        await client.task("t_1").result(timeout=0.05)
    assert isinstance(caught.value.__cause__, ConnectionLost)


async def test_a_task_whose_retention_has_passed_is_told(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.refuses(410, "task_gone"))

    with pytest.raises(TaskGone):
        await client.task("t_1").result()


async def test_status_and_cancel_return_the_task_as_it_stands(server: Any, client: Client, wire: Any) -> None:
    cancelled = wire.answers(wire.task | {"state": "cancelled", "worker_id": None, "of_a_later_version": 1})
    server.play(wire.answers(wire.task), cancelled, cancelled)
    task = client.task("t_1")

    assert (await task.status()).state is State.QUEUED
    assert (await task.cancel("enough")).state is State.CANCELLED
    assert (await task.cancel()).state.is_terminal
    status, with_reason, without = server.requests
    assert (status.method, status.path) == ("GET", "/v1/tasks/t_1")
    assert (with_reason.method, with_reason.path) == ("POST", "/v1/tasks/t_1/cancel")
    assert (with_reason.body, without.body) == ({"reason": "enough"}, {})
