import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tailplane.client import Client, ConnectionLost, ResultPending, State, TaskExpired, TaskFailed, TaskGone
from tailplane.protocol.errors import InboxFull, TaskEnded

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


class Approval(BaseModel):
    approved: bool


async def test_a_message_is_named_after_its_model_and_has_a_key_of_its_own(
    server: Any, client: Client, wire: Any
) -> None:
    taken = wire.answers({"task_id": "t_1", "number": 3}, 202)
    server.play(taken, taken, taken, taken)
    task = client.task("t_1")

    assert await task.send_event(Approval(approved=True)) == 3
    await task.send_event({"any": b"\x00"}, type="file")
    await client.send_event("t_1", Approval(approved=False), type="answer", idempotency_key="mine")
    await task.send_event(None)
    model, named, keyed, plain = server.requests
    assert (model.method, model.path) == ("POST", "/v1/tasks/t_1/events")
    assert model.body == {"type": "Approval", "data": {"approved": True}}
    assert named.body == {"type": "file", "data": {"any": b"\x00"}}
    assert (keyed.body["type"], keyed.headers["idempotency-key"]) == ("answer", "mine")
    assert plain.body == {"type": None, "data": None}
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert len(keys) == 4


async def test_a_message_whose_answer_was_lost_is_sent_again_with_the_same_key(
    server: Any, client: Client, wire: Any
) -> None:
    async def cut(exchange: Any) -> None:
        await exchange.cut()

    server.play(cut, wire.answers({"task_id": "t_1", "number": 1}, 202))

    assert await client.task("t_1").send_event("hi") == 1
    first, second = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(409, "task_ended", TaskEnded), (409, "inbox_full", InboxFull), (410, "task_gone", TaskGone)],
)
async def test_what_a_task_does_not_take_is_told(
    server: Any, client: Client, wire: Any, status: int, code: str, kind: type[Exception]
) -> None:
    server.play(wire.refuses(status, code))

    with pytest.raises(kind):
        await client.task("t_1").send_event("hi")


async def test_steps_are_what_the_task_has_done(server: Any, client: Client, wire: Any) -> None:
    error = {"code": "workflow_error", "type": "builtins.OSError", "message": "away"}
    steps = [
        {"id": "0", "name": "load", "kind": "step", "attempt": 1, "started_at": 1.0, "ended_at": 2.0, "seqs": [3, 5]},
        {"id": "1", "name": "call", "kind": "step", "attempt": 2, "started_at": 3.0, "error": error, "of_a_later": 1},
    ]
    server.play(wire.answers({"steps": steps}))

    done, failed = await client.task("t_1").steps()
    assert (done.name, done.seqs, done.error) == ("load", (3, 5), None)
    assert failed.error is not None
    assert (failed.error.type, failed.ended_at) == ("builtins.OSError", None)
    assert server.requests[0].path == "/v1/tasks/t_1/steps"
