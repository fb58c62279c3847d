from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import tailplane.client
from tailplane.client import Client, DeadLetterNotFound, Priority, Schedule, ScheduleNotFound, State

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


async def test_a_task_s_start_is_put_off(server: Any, client: Client, wire: Any) -> None:
    server.play(*[wire.answers(wire.task, 202)] * 4)

    await client.run_workflow("words", delay=timedelta(minutes=5))
    await client.run_workflow("words", delay=0.25)
    await client.run_workflow("words", run_at=datetime(2026, 12, 1, tzinfo=UTC))
    await client.run_workflow("words")
    with pytest.raises(ValueError, match="has no time zone"):
        await client.run_workflow("words", run_at=datetime(2026, 12, 1))  # noqa: DTZ001
    with pytest.raises(TypeError, match="a time is a timedelta, or a number of seconds, not '5m'"):
        await client.run_workflow("words", delay="5m")  # type: ignore[arg-type]

    plain = {"workflow": "words", "input": None}
    said = [{"delay_ms": 300_000}, {"delay_ms": 250}, {"run_at": 1796083200.0}, {}]
    assert [each.body for each in server.requests] == [plain | more for more in said]


async def test_a_schedule_is_put_and_told_of(server: Any, client: Client, wire: Any) -> None:
    told = {"name": "nightly", "workflow": "words", "created_at": 1.0, "updated_at": 1.0, "next_at": 5.0, "fired": 3}
    server.play(
        wire.refuses(503, "store_unavailable", {"Retry-After": "0"}),
        wire.answers(told, 201),
        wire.answers(told),
        wire.answers({"schedules": [told], "next_page": "nightly"}),
        wire.answers({"schedules": [told | {"name": "other"}], "next_page": None}),
        wire.refuses(404, "schedule_not_found"),
    )
    wanted = Schedule(
        workflow="words", input_data={"n": 1}, cron="@daily", time_zone="Europe/Berlin", overlap="skip",
        misfire_grace=timedelta(hours=1), end_at=datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip

    made = await client.put_schedule("nightly", wanted)

    assert (made.name, made.next_at, made.fired, made.paused) == ("nightly", 5.0, 3, False)
    assert await client.schedule("nightly") == made
    assert [each.name async for each in client.schedules()] == ["nightly", "other"]
    with pytest.raises(ScheduleNotFound):
        await client.schedule("none")
    assert [(each.method, each.path) for each in server.requests[:3]] == [
        ("PUT", "/v1/schedules/nightly"), ("PUT", "/v1/schedules/nightly"), ("GET", "/v1/schedules/nightly"),
    ]  # fmt: skip
    assert server.requests[0].body == {
        "workflow": "words", "input": {"n": 1}, "cron": "@daily", "time_zone": "Europe/Berlin", "overlap": "skip",
        "catch_up": "latest", "misfire_grace_ms": 3_600_000, "end_at": 1798761600.0,
    }  # fmt: skip
    assert server.requests[4].query == {"page": "nightly"}


async def test_a_schedule_is_paused_resumed_triggered_and_deleted(server: Any, client: Client, wire: Any) -> None:
    async def done(exchange: Any) -> None:
        exchange._writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await exchange._writer.drain()

    told = {"name": "job", "workflow": "words", "created_at": 1.0, "updated_at": 1.0}
    task = wire.answers(wire.task, 201)
    server.play(wire.answers(told | {"paused": True}), wire.answers(told), task, task, done)

    assert (await client.pause_schedule("job")).paused
    assert not (await client.resume_schedule("job")).paused
    assert (await client.trigger_schedule("job")).task_id == "t_1"
    await client.trigger_schedule("job", idempotency_key="mine")
    await client.delete_schedule("job")

    assert [(each.method, each.path.removeprefix("/v1/schedules/job")) for each in server.requests] == [
        ("POST", "/pause"), ("POST", "/resume"), ("POST", "/trigger"), ("POST", "/trigger"), ("DELETE", ""),
    ]  # fmt: skip
    keys = [each.headers["idempotency-key"] for each in server.requests[2:4]]
    assert (len(keys[0]), keys[1]) == (32, "mine")


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


async def test_terms_are_sent_as_they_were_given_and_not_otherwise(server: Any, client: Client, wire: Any) -> None:
    server.play(*[wire.answers(wire.task, 202)] * 4)

    await client.run_workflow("words")
    await client.run_workflow("words", concurrency_limit=2)
    await client.run_workflow("words", priority="high")
    await client.run_workflow("words", priority=Priority.LOW, concurrency_key="ada", concurrency_limit=2)

    assert [request.body for request in server.requests] == [
        {"workflow": "words", "input": None},
        {"workflow": "words", "input": None, "concurrency_limit": 2},
        {"workflow": "words", "input": None, "priority": "high"},
        {
            "workflow": "words", "input": None, "priority": "low", "concurrency_key": "ada", "concurrency_limit": 2,
        },
    ]  # fmt: skip
