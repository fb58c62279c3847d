from typing import Any

import pytest

import tailplane.client
from tailplane.client import Client, DeadLetterNotFound, State

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


async def test_dead_letters_come_page_by_page(server: Any, client: Client, wire: Any) -> None:
    def page(*ids: str, next_page: str | None) -> Any:
        letter = {"workflow": "words", "created_at": 1.0, "ended_at": 2.0, "attempts": 3, "error": {"message": "no"}}
        return wire.answers({"dead_letters": [letter | {"task_id": each} for each in ids], "next_page": next_page})

    server.play(page("t_3", "t_2", next_page="p2"), page("t_1", next_page=None))

    letters = [letter async for letter in client.dead_letters(workflow="words")]

    assert [(each.task_id, each.attempts, each.error.message) for each in letters] == [
        ("t_3", 3, "no"), ("t_2", 3, "no"), ("t_1", 3, "no"),
    ]  # fmt: skip
    assert [(each.path, each.query) for each in server.requests] == [
        ("/v1/dead-letters", {"workflow": "words"}),
        ("/v1/dead-letters", {"workflow": "words", "page": "p2"}),
    ]


async def test_a_dead_letter_is_requeued_or_dropped(server: Any, client: Client, wire: Any) -> None:
    async def done(exchange: Any) -> None:
        exchange._writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await exchange._writer.drain()

    again = wire.task | {"task_id": "t_2", "requeue_of": "t_1", "position": 4}
    refusals = [wire.refuses(429, "queue_full", {"Retry-After": "0"}), wire.refuses(404, "dead_letter_not_found")]
    server.play(refusals[0], wire.answers(again, 201), done, refusals[1])

    task = await client.requeue("t_1")
    await client.drop_dead_letter("t_3")
    with pytest.raises(DeadLetterNotFound):
        await client.drop_dead_letter("t_4")

    assert (task.task_id, task.workflow, task.position) == ("t_2", "words", 4)
    assert [(each.method, each.path) for each in server.requests] == [
        *[("POST", "/v1/dead-letters/t_1/requeue")] * 2,
        ("DELETE", "/v1/dead-letters/t_3"),
        ("DELETE", "/v1/dead-letters/t_4"),
    ]


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
