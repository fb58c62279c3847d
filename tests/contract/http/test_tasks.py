"""Submitting, looking at and waiting for tasks: PROTOCOL.md 2."""

import asyncio
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from tailplane.broker import Broker, TaskRef
from tailplane.protocol import codec
from tailplane.protocol.ids import TaskId, new_task_id, parse_task_id
from tailplane.protocol.states import Trigger

MSGPACK = {"Content-Type": "application/msgpack"}
ERROR = {"code": "workflow_error", "type": "builtins.ValueError", "message": "no", "traceback": "Traceback ..."}


async def stored_input(broker: Broker, task_id: str) -> Any:
    record = await broker.tasks.read(TaskRef(TaskId(task_id)), ("task_id", "state", "input"))
    return codec.unpack(record.input)


async def test_a_submitted_task_is_queued_and_located(http: Any, broker: Broker, fleet: Any) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "count", "input": {"n": 3}, "metadata": {"user": "ada"}})

    assert response.status_code == 202
    task = response.json()
    assert response.headers["location"] == f"/v1/tasks/{task['task_id']}"
    assert parse_task_id(task.pop("task_id"))
    assert abs(task.pop("created_at") - time.time()) < 30
    assert task == {
        "workflow": "count", "version": "7", "state": "queued", "attempt": 0, "metadata": {"user": "ada"},
        "position": 0,
    }  # fmt: skip
    claims = await broker.queue.claim(fleet.worker_id, 10, {"count": 10})
    assert [f"/v1/tasks/{claim.task.task_id}" for claim in claims.taken] == [response.headers["location"]]


async def test_msgpack_goes_in_and_comes_out(http: Any, broker: Broker, fleet: Any) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    body = codec.pack({"workflow": "echo", "input": {"raw": b"\x00\xff", "when": when, 7: "seven"}})

    response = await http.post("/v1/tasks", content=body, headers=MSGPACK | {"Accept": "application/msgpack"})

    assert response.status_code == 202, response.text
    assert response.headers["content-type"] == "application/msgpack"
    task = codec.unpack(response.content)
    assert await stored_input(broker, task["task_id"]) == {"raw": b"\x00\xff", "when": when, 7: "seven"}
    await fleet.run(task["task_id"], {"raw": b"\x01", "when": when})
    url = f"/v1/tasks/{task['task_id']}"
    as_msgpack = await http.get(url, headers={"Accept": "application/msgpack"})
    assert codec.unpack(as_msgpack.content)["result"] == {"raw": b"\x01", "when": when}
    assert (await http.get(url)).json()["result"] == {"raw": {"$bytes": "AQ=="}, "when": "2026-01-01T00:00:00Z"}


async def test_a_body_without_a_content_type_is_json(http: Any, fleet: Any) -> None:
    response = await http.post("/v1/tasks", content=b'{"workflow": "echo"}')

    assert response.status_code == 202


async def test_the_callers_trace_context_is_kept(http: Any, broker: Broker, fleet: Any) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": parent, "tracestate": "vendor=1"}

    task_id = (await http.post("/v1/tasks", json={"workflow": "echo"}, headers=headers)).json()["task_id"]

    record = await broker.tasks.read(TaskRef(TaskId(task_id)), ("task_id", "state", "trace"))
    assert record.trace == {"traceparent": parent, "tracestate": "vendor=1"}


async def test_a_task_shows_who_ran_it_and_what_came_out(http: Any, fleet: Any, submit: Any) -> None:
    task_id = await submit()
    await fleet.run(task_id, {"answer": 42})

    task = (await http.get(f"/v1/tasks/{task_id}")).json()

    assert (task["state"], task["attempt"], task["worker_id"]) == ("succeeded", 1, fleet.worker_id)
    assert task["result"] == {"answer": 42}
    assert task["created_at"] <= task["started_at"] <= task["ended_at"]
    assert "error" not in task


async def test_the_result_none_is_a_result(http: Any, fleet: Any, submit: Any) -> None:
    task_id = await submit()
    await fleet.run(task_id, None)

    task = (await http.get(f"/v1/tasks/{task_id}/result")).json()

    assert task["result"] is None


async def test_a_failed_task_is_an_answer_and_no_http_error(http: Any, fleet: Any, submit: Any) -> None:
    task_id = await submit()
    await fleet.end(await fleet.begin(task_id), Trigger.FAIL, error=ERROR)

    response = await http.get(f"/v1/tasks/{task_id}/result?wait=60")

    assert response.status_code == 200
    assert (response.json()["state"], response.json()["error"]) == ("failed", ERROR)


async def test_an_unfinished_task_has_no_result_yet(http: Any, submit: Any) -> None:
    task_id = await submit()

    response = await http.get(f"/v1/tasks/{task_id}/result?wait=0.05")

    assert (response.status_code, response.json()["state"]) == (202, "queued")


async def test_the_result_is_waited_for(http: Any, fleet: Any, submit: Any) -> None:
    task_id = await submit()
    begun = await fleet.begin(task_id)
    started = time.monotonic()

    waiting = asyncio.create_task(http.get(f"/v1/tasks/{task_id}/result?wait=60"))
    await fleet.end(begun, Trigger.SUCCEED, "late")
    response = await waiting

    assert (response.status_code, response.json()["result"]) == (200, "late")
    assert time.monotonic() - started < 30


async def test_a_drain_ends_the_waiting(http: Any, app: Any, submit: Any) -> None:
    task_id = await submit()

    waiting = asyncio.create_task(http.get(f"/v1/tasks/{task_id}/result?wait=60"))
    # Let the call begin to wait; were the drain noticed only at its beginning, the answer would take a minute.
    await asyncio.wait({waiting}, timeout=0.2)
    app.state.drain.set()
    response = await asyncio.wait_for(waiting, 30)

    assert response.status_code == 202


async def test_an_unknown_workflow_is_404(http: Any, fleet: Any) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "nobody"})

    assert (response.status_code, response.json()["code"]) == (404, "unknown_workflow")
    assert response.headers["content-type"] == "application/problem+json"
    assert "nobody" in response.json()["detail"]


async def test_a_workflow_is_known_as_soon_as_it_is_registered(http: Any, fleet: Any) -> None:
    assert (await http.post("/v1/tasks", json={"workflow": "newcomer"})).status_code == 404

    await fleet.register(newcomer={})

    assert (await http.post("/v1/tasks", json={"workflow": "newcomer"})).status_code == 202


@pytest.mark.parametrize(
    ("value", "loc"), [({"n": "three"}, ["n"]), ({"n": -1}, ["n"]), ({}, []), ("n", []), (None, [])]
)
async def test_an_input_that_does_not_fit_says_where(http: Any, fleet: Any, value: Any, loc: list[str]) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "count", "input": value})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    (error,) = response.json()["errors"]
    assert error["loc"] == loc
    assert error["msg"]


async def test_a_refused_task_leaves_nothing_behind(http: Any, broker: Broker, fleet: Any) -> None:
    # Other deployments' keys on this server come and go.
    mine = f"{broker.keys.prefix}:*"
    before = sorted(await broker.redis.keys(mine))

    await http.post("/v1/tasks", json={"workflow": "count", "input": {}})

    assert sorted(await broker.redis.keys(mine)) == before
    assert (await http.get("/v1/tasks")).json() == {"tasks": [], "next_page": None}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/tasks/{}", "task_not_found"),
        ("/v1/tasks/{}/result", "task_not_found"),
        ("/v1/tasks/{}/events", "task_not_found"),
    ],
)
async def test_a_task_that_never_was_is_404(http: Any, path: str, code: str) -> None:
    response = await http.get(path.format(new_task_id()))

    assert (response.status_code, response.json()["code"]) == (404, code)


@pytest.mark.parametrize("path", ["/v1/tasks/{}", "/v1/tasks/{}/result", "/v1/tasks/{}/events", "/v1/sessions/{}"])
@pytest.mark.parametrize("bad", ["x", "t_", "t_" + "u" * 26, "s_01JD3Z0V9M6S8K2X4Q7W5E1R0T", "%00", "t_01jd%0a"])
async def test_what_is_no_id_is_422(http: Any, path: str, bad: str) -> None:
    response = await http.get(path.format(bad))

    assert (response.status_code, response.json()["code"]) == (422, "invalid_id")


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan", "inf"])
async def test_a_wait_out_of_bounds_is_422(http: Any, submit: Any, wait: str) -> None:
    task_id = await submit()

    response = await http.get(f"/v1/tasks/{task_id}/result", params={"wait": wait})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["errors"][0]["loc"] == ["query", "wait"]


async def test_health(http: httpx2.AsyncClient, fleet: Any) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).status_code == 200


async def test_a_task_says_its_priority_and_its_key_and_is_claimed_by_them(
    http: Any, broker: Broker, fleet: Any
) -> None:
    wanted = {"priority": "high", "concurrency_key": "customer 7 \u00e4", "concurrency_limit": 1}
    plain = (await http.post("/v1/tasks", json={"workflow": "echo"})).json()
    made = [(await http.post("/v1/tasks", json={"workflow": "echo"} | wanted)).json() for _ in range(2)]

    assert [{name: task[name] for name in wanted} for task in made] == [wanted] * 2
    assert not wanted.keys() & plain.keys()
    claims = await broker.queue.claim(fleet.worker_id, 9, {"echo": 9})
    assert [claim.task.task_id for claim in claims.taken][1:] == [plain["task_id"]]
    blocked = next(task for task in made if task["task_id"] != claims.taken[0].task.task_id)
    seen = (await http.get(f"/v1/tasks/{blocked['task_id']}")).json()
    assert (seen["state"], {name: seen[name] for name in wanted}) == ("queued", wanted)
    fleet_now = (await http.get("/v1/fleet")).json()
    assert [queue["depth"] for queue in fleet_now["queues"] if queue["workflow"] == "echo"] == [1]
    assert (await http.post(f"/v1/tasks/{blocked['task_id']}/cancel")).json()["state"] == "cancelled"
    assert await broker.queue.depth("echo") == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": "urgent"},
        {"priority": 1},
        {"concurrency_key": ""},
        {"concurrency_key": "x" * 201},
        {"concurrency_key": "two\nlines"},
        {"concurrency_key": "key", "concurrency_limit": 0},
        {"concurrency_key": "key", "concurrency_limit": "2"},
        {"concurrency_limit": 2},
    ],
)
async def test_terms_that_mean_nothing_are_422(http: Any, fleet: Any, wrong: dict[str, Any]) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "echo"} | wrong)

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_a_workflow_s_priority_counts_where_the_submit_says_none(http: Any, broker: Broker, fleet: Any) -> None:
    record = replace((await broker.queue.workflows())["echo"], priority="low", max_running=3)
    await broker.redis.hset(broker.keys.workflows, "echo", codec.pack(asdict(record)))  # type: ignore[misc]

    made = [
        (await http.post("/v1/tasks", json={"workflow": "echo"} | more)).json() for more in ({}, {"priority": "normal"})
    ]

    assert [task.get("priority") for task in made] == ["low", None]
    (shown,) = [each for each in (await http.get("/v1/workflows")).json()["workflows"] if each["name"] == "echo"]
    assert (shown["priority"], shown["max_running"]) == ("low", 3)
