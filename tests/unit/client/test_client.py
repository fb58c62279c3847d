from typing import Any

import pytest

import tailplane.client
from tailplane.client import Client, State

pytestmark = pytest.mark.anyio


def test_the_public_names_are_sorted_and_there() -> None:
    names = tailplane.client.__all__

    assert names == sorted(names)
    assert all(hasattr(tailplane.client, name) for name in names)


async def test_tasks_come_page_by_page(server: Any, client: Client, wire: Any) -> None:
    def page(*ids: str, next_page: str | None) -> Any:
        return wire.answers({"tasks": [wire.task | {"task_id": each} for each in ids], "next_page": next_page})

    server.play(page("t_3", "t_2", next_page="p2"), page(next_page="p3"), page("t_1", next_page=None))

    tasks = client.tasks(state=State.QUEUED, workflow="words", session_id="s_1")

    assert [task.task_id async for task in tasks] == ["t_3", "t_2", "t_1"]
    query = {"state": "queued", "workflow": "words", "session_id": "s_1"}
    assert [request.query for request in server.requests] == [query, query | {"page": "p2"}, query | {"page": "p3"}]


async def test_workflows_and_workers_are_listed(server: Any, client: Client, wire: Any) -> None:
    workflow = {"name": "words", "version": "1", "description": "", "input_schema": {}, "max_attempts": 3}
    worker = {"worker_id": "w_1", "workflows": ["words"], "concurrency": 8, "running": 2, "started_at": 1.0}
    server.play(wire.answers({"workflows": [workflow]}), wire.answers({"workers": [worker]}))

    assert [(each.name, each.max_attempts) for each in await client.workflows()] == [("words", 3)]
    assert [(each.worker_id, each.running) for each in await client.workers()] == [("w_1", 2)]


async def test_it_works_without_a_block(server: Any, wire: Any) -> None:
    server.play(wire.answers({"workers": []}))
    client = Client(server.url)

    assert await client.workers() == []
    await client.aclose()
    await client.aclose()
