"""GET /v1/tasks: newest first, complete, stable while tasks come in and go."""

import asyncio
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest

from tailplane.broker import Broker, TaskRef
from tailplane.protocol.ids import TaskId


async def all_pages(http: Any, limit: int, **filters: str) -> list[list[str]]:
    pages: list[list[str]] = []
    params: dict[str, Any] = {"limit": limit} | filters
    while True:
        body = (await http.get("/v1/tasks", params=params)).json()
        pages.append([task["task_id"] for task in body["tasks"]])
        if body["next_page"] is None:
            return pages
        params["page"] = body["next_page"]


async def a_later_millisecond() -> None:
    """Wait, so that what is submitted then has a greater id: those of one millisecond have no order."""
    await asyncio.sleep(0.005)


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 200])
async def test_the_pages_are_complete_and_newest_first(http: Any, submit: Any, limit: int) -> None:
    made = [await submit() for _ in range(10)]

    pages = await all_pages(http, limit)

    # By id, which is by the millisecond: within one the order is any, but always the same.
    assert [*chain(*pages)] == sorted(made, reverse=True)
    assert {len(page) for page in pages[:-1]} <= {limit}
    assert pages[-1]


async def test_a_task_that_comes_in_meanwhile_shifts_nothing(http: Any, submit: Any) -> None:
    made = {await submit() for _ in range(6)}
    first = (await http.get("/v1/tasks", params={"limit": 3})).json()

    await a_later_millisecond()
    await submit()
    second = (await http.get("/v1/tasks", params={"limit": 3, "page": first["next_page"]})).json()

    assert {task["task_id"] for task in first["tasks"] + second["tasks"]} == made
    assert second["next_page"] is None


async def test_tasks_are_filtered(http: Any, fleet: Any, submit: Any) -> None:
    done = await submit()
    await fleet.run(done)
    counting = await submit("count", input={"n": 1})
    queued = await submit()

    async def listed(**params: str) -> set[str]:
        return set(chain(*await all_pages(http, 50, **params)))

    assert await listed(state="succeeded") == {done}
    assert await listed(state="queued") == {counting, queued}
    assert await listed(workflow="count") == {counting}
    assert await listed(workflow="echo", state="queued") == {queued}
    assert await listed(workflow="nobody") == set()


async def test_results_are_not_in_lists(http: Any, fleet: Any, submit: Any) -> None:
    await fleet.run(await submit(), {"large": "result"})

    (task,) = (await http.get("/v1/tasks")).json()["tasks"]

    assert "result" not in task


async def test_one_call_reads_a_bounded_number_of_records(
    http: Any, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailplane.control_plane.listing.MAX_SCANNED", 8)
    monkeypatch.setattr("tailplane.control_plane.listing.CHUNK", 4)
    made = [await submit("count", input={"n": 1})]
    await a_later_millisecond()
    made += [await submit() for _ in range(20)]

    first = (await http.get("/v1/tasks", params={"workflow": "count"})).json()
    pages = await all_pages(http, 50, workflow="count")

    assert first["tasks"] == []
    assert first["next_page"] in made
    assert [*chain(*pages)] == [made[0]]


async def test_a_removed_task_leaves_the_list_and_stays_known(http: Any, broker: Broker, submit: Any) -> None:
    kept, gone = await submit(), await submit()
    await broker.tasks.discard(TaskRef(TaskId(gone)))

    assert [*chain(*await all_pages(http, 50))] == [kept]

    assert await broker.redis.zcard(broker.keys.tasks("default")) == 1
    assert (await http.get(f"/v1/tasks/{gone}")).status_code == 410


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"state": "lost"}, "invalid_request"),
        ({"limit": "0"}, "invalid_request"),
        ({"limit": "201"}, "invalid_request"),
        ({"limit": "x"}, "invalid_request"),
        ({"workflow": "a b"}, "invalid_request"),
        ({"session_id": "x"}, "invalid_id"),
        ({"session_id": ""}, "invalid_id"),
        ({"page": "x"}, "invalid_id"),
        ({"page": ""}, "invalid_id"),
    ],
)
async def test_a_parameter_that_does_not_fit_is_422(http: Any, params: dict[str, str], code: str) -> None:
    response = await http.get("/v1/tasks", params=params)

    assert (response.status_code, response.json()["code"]) == (422, code)


async def test_workflows_and_workers_are_listed(http: Any, fleet: Any, submit: Any) -> None:
    await fleet.begin(await submit())

    workflows = (await http.get("/v1/workflows")).json()["workflows"]
    (worker,) = (await http.get("/v1/workers")).json()["workers"]

    assert [workflow["name"] for workflow in workflows] == ["count", "echo"]
    assert workflows[1] == {
        "name": "echo", "version": "7", "description": "The echo.", "input_schema": {}, "input_optional": False,
        "timeout_ms": 1000, "max_attempts": 3,
    }  # fmt: skip
    assert 0 < worker.pop("lease_ms") <= timedelta(minutes=10) / timedelta(milliseconds=1)
    assert worker.pop("started_at") > 0
    assert worker == {
        "worker_id": fleet.worker_id, "host": "host-1", "pid": 42, "version": "0.1.0",
        "workflows": ["echo", "count"], "concurrency": 10, "running": 1,
    }  # fmt: skip


async def test_how_the_deployment_stands_is_told(http: Any, fleet: Any, submit: Any) -> None:
    await fleet.begin(await submit())
    for _ in range(3):
        await submit()

    found = (await http.get("/v1/fleet")).json()

    echo, count = (next(each for each in found["queues"] if each["workflow"] == name) for name in ("echo", "count"))
    assert (echo["depth"], echo["workers"]) == (3, 1)
    assert 0 <= echo["oldest_age_ms"] < 60_000
    assert count == {"workflow": "count", "depth": 0, "oldest_age_ms": 0, "workers": 1}
    assert [worker["running"] for worker in found["workers"]] == [1]
    assert found["dead_letters"] == 0


async def test_a_workflow_without_a_worker_says_so(http: Any, fleet: Any, submit: Any, broker: Any) -> None:
    await submit()
    await broker.queue.reap(fleet.worker_id, leaves=True)

    (echo,) = [each for each in (await http.get("/v1/fleet")).json()["queues"] if each["workflow"] == "echo"]

    assert (echo["depth"], echo["workers"]) == (1, 0)
