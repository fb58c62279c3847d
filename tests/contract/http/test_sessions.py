"""Sessions: opened, looked at, filled, closed."""

import time
from typing import Any

import pytest

from tailplane.broker import Broker
from tailplane.protocol.ids import new_session_id, parse_session_id


async def test_a_session_is_opened_and_found(http: Any) -> None:
    made = await http.post("/v1/sessions", json={"metadata": {"user": "ada"}})

    assert made.status_code == 201
    session = made.json()
    assert parse_session_id(session["session_id"])
    assert made.headers["location"] == f"/v1/sessions/{session['session_id']}"
    assert abs(session["created_at"] - time.time()) < 30
    assert (session["closed"], session["metadata"]) == (False, {"user": "ada"})
    assert (await http.get(made.headers["location"])).json() == session


async def test_a_session_needs_no_body(http: Any) -> None:
    assert (await http.post("/v1/sessions")).status_code == 201


async def test_a_task_of_a_session_says_so(http: Any, fleet: Any) -> None:
    session = (await http.post("/v1/sessions")).json()["session_id"]

    task = (await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"})).json()
    await http.post("/v1/tasks", json={"workflow": "echo"})

    assert task["session_id"] == session
    listed = (await http.get("/v1/tasks", params={"session_id": session})).json()["tasks"]
    assert [each["task_id"] for each in listed] == [task["task_id"]]


async def test_a_closed_session_takes_no_task(http: Any, broker: Broker, fleet: Any) -> None:
    session = (await http.post("/v1/sessions")).json()["session_id"]
    closed = await http.delete(f"/v1/sessions/{session}")

    response = await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"})

    assert (closed.status_code, closed.json()["closed"]) == (200, True)
    assert (response.status_code, response.json()["code"]) == (409, "session_closed")
    assert [key async for key in broker.redis.scan_iter(f"{broker.keys.prefix}:default:*")] == []
    assert (await http.delete(f"/v1/sessions/{session}")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_session_that_never_was_is_404(http: Any, method: str) -> None:
    response = await http.request(method, f"/v1/sessions/{new_session_id()}")

    assert (response.status_code, response.json()["code"]) == (404, "session_not_found")


async def test_a_task_for_a_session_that_never_was_is_404(http: Any, broker: Broker, fleet: Any) -> None:
    response = await http.post(f"/v1/sessions/{new_session_id()}/tasks", json={"workflow": "echo"})

    assert (response.status_code, response.json()["code"]) == (404, "session_not_found")
    assert [key async for key in broker.redis.scan_iter(f"{broker.keys.prefix}:default:*")] == []


async def test_closing_leaves_the_tasks_alone_unless_asked(http: Any, fleet: Any) -> None:
    session = (await http.post("/v1/sessions")).json()["session_id"]
    url = f"/v1/sessions/{session}/tasks"
    done, *waiting = [(await http.post(url, json={"workflow": "echo"})).json()["task_id"] for _ in range(3)]
    await fleet.run(done)

    await http.delete(f"/v1/sessions/{session}")
    states = [(await http.get(f"/v1/tasks/{task}")).json()["state"] for task in waiting]
    await http.delete(f"/v1/sessions/{session}", params={"cancel": "true"})
    states_after = [(await http.get(f"/v1/tasks/{task}")).json()["state"] for task in [done, *waiting]]

    assert states == ["queued", "queued"]
    assert states_after == ["succeeded", "cancelled", "cancelled"]


async def test_a_whole_session_is_cancelled(http: Any, fleet: Any) -> None:
    session = (await http.post("/v1/sessions")).json()["session_id"]
    for _ in range(150):
        await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"})

    await http.delete(f"/v1/sessions/{session}", params={"cancel": "true"})

    listed = (await http.get("/v1/tasks", params={"session_id": session, "limit": 200})).json()["tasks"]
    assert [task["state"] for task in listed] == ["cancelled"] * 150
