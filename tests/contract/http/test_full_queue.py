"""A bounded queue: what is over the bound is refused and leaves nothing behind; what is taken has a position."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from fastapi import FastAPI

from tailplane.broker import Broker, TaskRef, TenantRecord
from tailplane.control_plane import Settings
from tailplane.protocol.events import unpack_payload
from tailplane.protocol.ids import EntryId, TaskId, new_task_id

LIMIT = 2
KEY = {"Idempotency-Key": "order 67"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued": LIMIT})


@pytest.fixture
async def full(submit: Any) -> list[str]:
    """Fill the queue of `echo`; the tasks in it."""
    return [await submit() for _ in range(LIMIT)]


async def kept(broker: Broker) -> list[bytes]:
    return sorted(await broker.redis.keys(f"{broker.keys.prefix}:*"))


async def test_a_submit_beyond_the_bound_is_429_and_says_why(http: Any, full: Any) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "echo"})

    problem = response.json()
    assert (response.status_code, problem["code"]) == (429, "queue_full")
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["depth"], problem["limit"], problem["workflow"]) == (LIMIT, LIMIT, "echo")
    assert 1 <= problem["retry_after"] <= 30
    assert problem["retry_after"] <= int(response.headers["retry-after"]) < problem["retry_after"] + 1
    assert problem["detail"] == "2 tasks of echo wait, and 2 are taken"


@pytest.mark.parametrize("way", ["task", "session", "stream", "wait"])
async def test_a_refused_task_leaves_nothing_behind(http: Any, broker: Broker, full: Any, way: str) -> None:
    session = (await http.post("/v1/sessions")).json()["session_id"]
    before = await kept(broker)

    match way:
        case "task":
            response = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY)
        case "session":
            response = await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"}, headers=KEY)
        case "stream":
            response = await http.post("/v1/workflows/echo/stream", json="x", headers=KEY)
        case _:
            response = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY | {"Prefer": "wait=60"})

    assert response.status_code == 429
    assert await kept(broker) == before
    listed = (await http.get("/v1/tasks", params={"workflow": "echo"})).json()["tasks"]
    assert {task["task_id"] for task in listed} == set(full)


async def test_a_refused_request_can_come_again_with_its_key(http: Any, fleet: Any, full: Any) -> None:
    refused = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY)
    await fleet.broker.queue.claim(fleet.worker_id, 1, {"echo": 1})
    taken = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY)

    assert (refused.status_code, taken.status_code) == (429, 202)


async def test_a_known_request_is_answered_when_the_queue_is_full(http: Any, fleet: Any, submit: Any) -> None:
    first = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY)
    await submit()

    assert (await http.post("/v1/tasks", json={"workflow": "echo"})).status_code == 429
    again = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY)

    assert (again.status_code, again.json()) == (202, first.json())


async def test_a_tenants_own_bound_goes_before_the_deployments(
    http: Any, app: FastAPI, broker: Broker, submit: Any
) -> None:
    await broker.tenants.set_limits(TenantRecord("default", max_queued=LIMIT - 1))
    await app.state.services.tenants.refresh()
    await submit()
    problem = (await http.post("/v1/tasks", json={"workflow": "echo"})).json()
    assert (problem["code"], problem["limit"]) == ("queue_full", LIMIT - 1)


async def test_what_waits_of_another_tenant_is_not_counted(fleet: Any, broker: Broker, submit: Any) -> None:
    for _ in range(LIMIT):
        await broker.queue.enqueue(TaskRef(new_task_id(), "acme"), "echo")
    assert [await submit() for _ in range(LIMIT)]


async def test_another_workflow_s_queue_is_its_own(http: Any, full: Any, submit: Any) -> None:
    assert await submit("count", input={"n": 1})


async def test_of_many_at_once_so_many_are_taken_as_may_wait(http: Any, broker: Broker, fleet: Any) -> None:
    answers = await asyncio.gather(*(http.post("/v1/tasks", json={"workflow": "echo"}) for _ in range(30)))

    assert sorted(answer.status_code for answer in answers) == [202] * LIMIT + [429] * (30 - LIMIT)
    assert await broker.queue.depth("echo") == LIMIT
    # A record and a stream of each task that was taken.
    assert len(await broker.redis.keys(f"{broker.keys.prefix}:default:*")) == 2 * LIMIT


class TestPosition:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_queued": 1000})

    async def test_a_task_is_told_how_many_were_before_it(self, http: Any, broker: Broker, submit: Any) -> None:
        made = [await submit() for _ in range(3)]

        for position, task_id in enumerate(made):
            assert (await http.get(f"/v1/tasks/{task_id}")).json()["position"] == position
            ((entry,),) = await broker.log.read_after([(TaskRef(TaskId(task_id)), EntryId(0, 0), 10)])
            (queued,) = unpack_payload(entry.id, entry.payload)
            assert queued.data == {"workflow": "echo", "version": "7", "position": position}

    async def test_each_workflow_counts_its_own(self, http: Any, submit: Any) -> None:
        await submit()
        other = await submit("count", input={"n": 1})

        assert (await http.get(f"/v1/tasks/{other}")).json()["position"] == 0

    async def test_of_many_at_once_each_has_another_one(self, http: Any, fleet: Any) -> None:
        answers = await asyncio.gather(*(http.post("/v1/tasks", json={"workflow": "echo"}) for _ in range(100)))

        positions = sorted(answer.json()["position"] for answer in answers)
        assert all(one < other for one, other in pairwise(positions))
        assert positions[-1] == 99
