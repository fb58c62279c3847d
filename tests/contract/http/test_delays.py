"""Tasks that are to start later: due when they were asked for, by the server's clock, and patient from then on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tailplane.broker import Broker, TaskRef
from tailplane.protocol import codec
from tailplane.protocol.ids import TaskId

DAY = 86_400_000


async def now_of(broker: Broker) -> float:
    seconds, micros = await broker.redis.time()
    return float(seconds) + float(micros) / 1e6


async def test_a_delayed_task_is_due_later_and_says_when(http: Any, fleet: Any, broker: Broker) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "echo", "delay_ms": 60_000})

    assert response.status_code == 202, response.text
    task = response.json()
    assert task["state"] == "queued"
    assert task["due_at"] == pytest.approx(task["created_at"] + 60, abs=0.001)
    assert (await http.get(f"/v1/tasks/{task['task_id']}")).json()["due_at"] == task["due_at"]
    claims = await broker.queue.claim(fleet.worker_id, 1, {"echo": 1})
    assert claims.taken == []
    assert claims.next_due is not None
    assert claims.next_due == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=5))


async def test_a_time_is_seconds_or_text_or_a_datetime(http: Any, fleet: Any, broker: Broker) -> None:
    at = datetime.fromtimestamp(int(await now_of(broker)) + 3600, UTC)
    for run_at in (at.timestamp(), at.isoformat(), at.strftime("%Y-%m-%dT%H:%M:%SZ")):
        task = (await http.post("/v1/tasks", json={"workflow": "echo", "run_at": run_at})).json()
        assert task["due_at"] == pytest.approx(at.timestamp(), abs=1)
    headers = {"Content-Type": "application/msgpack"}
    response = await http.post("/v1/tasks", content=codec.pack({"workflow": "echo", "run_at": at}), headers=headers)
    assert response.json()["due_at"] == pytest.approx(at.timestamp(), abs=1)


@pytest.mark.parametrize("body", [{"run_at": 0}, {"run_at": "2001-01-01T00:00:00+01:00"}, {"delay_ms": 0}, {}])
async def test_a_time_that_has_passed_means_now(http: Any, fleet: Any, submit: Any, body: dict[str, Any]) -> None:
    task_id = await submit(**body)

    assert "due_at" not in (await http.get(f"/v1/tasks/{task_id}")).json()
    await fleet.run(task_id)


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        ({"delay_ms": 1, "run_at": 1}, [], "delay_ms or run_at, not both"),
        ({"delay_ms": -1}, ["delay_ms"], "greater than or equal to 0"),
        ({"delay_ms": 367 * DAY}, ["delay_ms"], "less than or equal to"),
        ({"delay_ms": 1.5}, ["delay_ms"], "valid integer"),
        ({"run_at": "tomorrow"}, ["run_at"], "no time as in RFC 3339"),
        ({"run_at": "2026-12-01T09:00:00"}, ["run_at"], "no offset from UTC"),
        ({"run_at": True}, ["run_at"], "a time is seconds since the epoch"),
        ({"run_at": -1}, ["run_at"], "a time is seconds since the epoch"),
        ({"run_at": "1969-12-31T23:00:00Z"}, ["run_at"], "before 1970"),
        ({"run_at": 253402300799}, ["run_at"], "more than 366 days ahead"),
    ],
)
async def test_what_is_no_time_is_422_and_says_why(
    http: Any, fleet: Any, body: dict[str, Any], where: list[str], said: str
) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "echo"} | body)

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    (error,) = response.json()["errors"]
    assert error["loc"] == ["body", *where]
    assert said in error["msg"]


async def test_a_delayed_task_of_a_session_is_cancelled_like_any_other(http: Any, fleet: Any, broker: Broker) -> None:
    session = (await http.post("/v1/sessions")).json()["session_id"]
    body = {"workflow": "echo", "delay_ms": DAY}
    task_id = (await http.post(f"/v1/sessions/{session}/tasks", json=body)).json()["task_id"]

    cancelled = (await http.post(f"/v1/tasks/{task_id}/cancel")).json()

    assert cancelled["state"] == "cancelled"
    assert await broker.queue.depth("echo") == 0


async def test_the_same_delayed_request_makes_one_task(http: Any, fleet: Any, broker: Broker) -> None:
    headers, body = {"Idempotency-Key": "once"}, {"workflow": "echo", "delay_ms": 60_000}
    made = [(await http.post("/v1/tasks", json=body, headers=headers)).json()["task_id"] for _ in range(2)]

    assert made[0] == made[1]
    assert await broker.queue.depth("echo") == 1
    other = await http.post("/v1/tasks", json=body | {"delay_ms": 1}, headers=headers)
    assert other.status_code == 409


async def test_a_delayed_task_s_record_outlives_its_wait(http: Any, fleet: Any, broker: Broker) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "echo", "delay_ms": 30 * DAY})

    task = TaskRef(TaskId(response.json()["task_id"]))
    for key in (broker.keys.task(task), broker.keys.stream(task)):
        assert await broker.redis.pttl(key) > 31 * DAY
    (standing,) = await broker.tasks.judge([task])
    assert not standing.is_late
