"""Dead letters over HTTP: listed, run again once, dropped."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any

import pytest

from tailplane.broker import Broker, TaskRef
from tailplane.control_plane import Settings
from tailplane.protocol import codec
from tailplane.protocol.events import unpack_payload
from tailplane.protocol.ids import EntryId, TaskId, new_task_id
from tailplane.protocol.states import Trigger

ERROR = {"code": "workflow_error", "type": "builtins.ValueError", "message": "no", "traceback": "Traceback ..."}
LIMIT = 20

Fail = Callable[..., Awaitable[str]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued": LIMIT})


@pytest.fixture
def fail(submit: Any, fleet: Any, broker: Broker) -> Fail:
    """Submit a task, let it fail and be noted; return its id."""

    async def fail(workflow: str = "echo", **body: Any) -> str:
        task_id: str = await submit(workflow, **body)
        await fleet.end(await fleet.begin(task_id, workflow), Trigger.FAIL, error=ERROR)
        await broker.catalogue.note_dead(TaskRef(TaskId(task_id)))
        return task_id

    return fail


async def letters(http: Any, **params: Any) -> list[str]:
    found: list[str] = []
    while True:
        page = (await http.get("/v1/dead-letters", params=params)).json()
        found += [letter["task_id"] for letter in page["dead_letters"]]
        if page["next_page"] is None:
            return found
        params["page"] = page["next_page"]


async def test_a_dead_letter_says_what_failed_and_why(http: Any, fail: Fail) -> None:
    task_id = await fail(metadata={"user": "ada"})

    response = await http.get("/v1/dead-letters")

    assert response.status_code == 200
    task = (await http.get(f"/v1/tasks/{task_id}")).json()
    assert response.json() == {
        "dead_letters": [
            {
                "task_id": task_id,
                "workflow": "echo",
                "version": "7",
                "error": {name: value for name, value in ERROR.items() if name != "traceback"},
                "attempts": 1,
                "created_at": task["created_at"],
                "ended_at": task["ended_at"],
                "metadata": {"user": "ada"},
            }
        ],
        "next_page": None,
    }
    assert task["error"] == ERROR


async def test_only_what_failed_is_listed(http: Any, fleet: Any, submit: Any, fail: Fail) -> None:
    await fleet.run(await submit())
    dead = await fail()
    await submit()

    assert await letters(http) == [dead]


async def test_pages_and_filter(http: Any, fail: Fail) -> None:
    made = [await fail() for _ in range(5)]
    counting = await fail("count", input={"n": 1})

    assert await letters(http, limit=2) == sorted([*made, counting], reverse=True)
    assert await letters(http, workflow="count") == [counting]
    assert await letters(http, workflow="nobody") == []


async def test_a_requeued_letter_is_a_new_task_with_all_that_was_asked_for(
    http: Any, broker: Broker, fail: Fail
) -> None:
    terms = {"priority": "high", "concurrency_key": "ada", "concurrency_limit": 3}
    dead = await fail("count", input={"n": 3}, metadata={"user": "ada"}, **terms)

    response = await http.post(f"/v1/dead-letters/{dead}/requeue")

    assert response.status_code == 201, response.text
    assert response.json().items() >= terms.items()
    task = response.json()
    assert response.headers["location"] == f"/v1/tasks/{task['task_id']}"
    assert task["task_id"] != dead
    assert (task["workflow"], task["state"], task["attempt"]) == ("count", "queued", 0)
    assert (task["metadata"], task["requeue_of"]) == ({"user": "ada"}, dead)
    ref = TaskRef(TaskId(task["task_id"]))
    assert codec.unpack((await broker.tasks.read(ref, ("state", "input"))).input) == {"n": 3}
    ((entry,),) = await broker.log.read_after([(ref, EntryId(0, 0), 10)])
    (queued,) = unpack_payload(entry.id, entry.payload)
    # The position is approximate: the failed one was there a moment ago.
    assert queued.data | {"position": 0} == {"workflow": "count", "version": "7", "position": 0, "requeue_of": dead}
    assert await letters(http) == []
    assert (await http.get(f"/v1/tasks/{dead}")).json()["state"] == "failed"


async def test_requeued_at_the_same_time_it_is_one_task(http: Any, broker: Broker, fail: Fail) -> None:
    dead = await fail()

    answers = await asyncio.gather(*(http.post(f"/v1/dead-letters/{dead}/requeue") for _ in range(10)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert await broker.queue.depth("echo") == 1
    # Of the failed and of the new task: what the others had recorded is gone.
    assert len(await broker.redis.keys(f"{broker.keys.prefix}:default:*")) == 4


async def test_requeued_again_the_new_task_is_shown_as_it_is_by_then(http: Any, fleet: Any, fail: Fail) -> None:
    dead = await fail()
    task_id = (await http.post(f"/v1/dead-letters/{dead}/requeue")).json()["task_id"]
    await fleet.run(task_id)

    again = await http.post(f"/v1/dead-letters/{dead}/requeue")

    assert (again.status_code, again.json()["task_id"], again.json()["state"]) == (201, task_id, "succeeded")


async def test_the_session_of_the_failed_task_has_nothing_to_do_with_the_new_one(
    http: Any, fleet: Any, broker: Broker
) -> None:
    session = (await http.post("/v1/sessions")).json()["session_id"]
    dead = (await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"})).json()["task_id"]
    await fleet.end(await fleet.begin(dead), Trigger.FAIL, error=ERROR)
    await broker.catalogue.note_dead(TaskRef(TaskId(dead)))
    await http.delete(f"/v1/sessions/{session}")

    assert (await http.get("/v1/dead-letters")).json()["dead_letters"][0]["session_id"] == session
    response = await http.post(f"/v1/dead-letters/{dead}/requeue")

    assert response.status_code == 201
    assert "session_id" not in response.json()


async def test_what_fails_again_is_a_letter_of_its_own(http: Any, fleet: Any, broker: Broker, fail: Fail) -> None:
    dead = await fail()
    task_id = (await http.post(f"/v1/dead-letters/{dead}/requeue")).json()["task_id"]
    await fleet.end(await fleet.begin(task_id), Trigger.FAIL, error=ERROR)
    await broker.catalogue.note_dead(TaskRef(TaskId(task_id)))

    (letter,) = (await http.get("/v1/dead-letters")).json()["dead_letters"]

    assert (letter["task_id"], letter["requeue_of"]) == (task_id, dead)


async def test_a_letter_whose_queue_is_full_stays_one(http: Any, fleet: Any, submit: Any, fail: Fail) -> None:
    dead = await fail()
    for _ in range(LIMIT):
        await submit()

    response = await http.post(f"/v1/dead-letters/{dead}/requeue")

    assert (response.status_code, response.json()["code"]) == (429, "queue_full")
    assert await letters(http) == [dead]
    await fleet.broker.queue.claim(fleet.worker_id, 1, {"echo": 1})
    assert (await http.post(f"/v1/dead-letters/{dead}/requeue")).status_code == 201


async def test_a_letter_that_does_not_fit_any_more_stays_one(http: Any, fleet: Any, fail: Fail) -> None:
    dead = await fail(input={})
    await fleet.register(echo={"type": "object", "required": ["n"]})
    # A schema is believed for a second.
    async with asyncio.timeout(30):
        while (await http.post("/v1/tasks", json={"workflow": "echo", "input": {}})).status_code != 422:
            await asyncio.sleep(0.05)

    response = await http.post(f"/v1/dead-letters/{dead}/requeue")

    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert await letters(http) == [dead]


async def test_a_dropped_letter_is_gone_and_its_task_stays(http: Any, fail: Fail) -> None:
    dead = await fail()

    answers = [await http.delete(f"/v1/dead-letters/{dead}") for _ in range(2)]

    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2
    assert await letters(http) == []
    assert (await http.get(f"/v1/tasks/{dead}")).json()["state"] == "failed"
    response = await http.post(f"/v1/dead-letters/{dead}/requeue")
    assert (response.status_code, response.json()["code"]) == (404, "dead_letter_not_found")
    assert "dropped" in response.json()["detail"]


async def test_a_requeued_letter_is_not_dropped(http: Any, fail: Fail) -> None:
    dead = await fail()
    await http.post(f"/v1/dead-letters/{dead}/requeue")

    response = await http.delete(f"/v1/dead-letters/{dead}")

    assert (response.status_code, response.json()["code"]) == (404, "dead_letter_not_found")
    assert "requeued" in response.json()["detail"]


@pytest.mark.parametrize("call", [("POST", "/v1/dead-letters/{}/requeue"), ("DELETE", "/v1/dead-letters/{}")])
async def test_only_a_failed_task_is_a_dead_letter(
    http: Any, broker: Broker, fleet: Any, submit: Any, fail: Fail, call: tuple[str, str]
) -> None:
    method, path = call

    async def answered(task_id: str) -> tuple[int, str, str]:
        response = await http.request(method, path.format(task_id))
        return response.status_code, response.json()["code"], response.json()["detail"]

    queued = await submit()
    assert await answered(queued) == (
        404, "dead_letter_not_found", f"task {queued} is queued: only a failed one is a dead letter",
    )  # fmt: skip
    await fleet.run(queued)
    assert (await answered(queued))[:2] == (404, "dead_letter_not_found")
    assert (await answered(new_task_id()))[:2] == (404, "task_not_found")
    assert (await answered("nonsense"))[:2] == (422, "invalid_id")
    gone = await fail()
    await broker.tasks.discard(TaskRef(TaskId(gone)))
    assert (await answered(gone))[:2] == (410, "task_gone")
    assert await broker.queue.depth("echo") == 0


async def test_a_letter_whose_task_was_removed_leaves_the_list(http: Any, broker: Broker, fail: Fail) -> None:
    kept, gone = await fail(), await fail()
    await broker.tasks.discard(TaskRef(TaskId(gone)))

    assert await letters(http) == [kept]

    assert await broker.redis.zcard(broker.keys.dead("default")) == 1


async def test_msgpack_comes_out_where_it_is_asked_for(http: Any, fail: Fail) -> None:
    dead = await fail()
    headers = {"Accept": "application/msgpack"}

    listed = await http.get("/v1/dead-letters", headers=headers)
    task = await http.post(f"/v1/dead-letters/{dead}/requeue", headers=headers)

    assert [letter["task_id"] for letter in codec.unpack(listed.content)["dead_letters"]] == [dead]
    assert codec.unpack(task.content)["requeue_of"] == dead


@pytest.mark.parametrize(
    ("params", "code"),
    [({"limit": "0"}, "invalid_request"), ({"workflow": "a b"}, "invalid_request"), ({"page": "x"}, "invalid_id")],
)
async def test_a_parameter_that_does_not_fit_is_422(http: Any, params: dict[str, str], code: str) -> None:
    response = await http.get("/v1/dead-letters", params=params)

    assert (response.status_code, response.json()["code"]) == (422, code)


async def test_the_document_describes_the_routes(http: Any) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]

    described = {path: set(methods) for path, methods in paths.items() if "dead-letters" in path}
    assert described == {
        "/v1/dead-letters": {"get"},
        "/v1/dead-letters/{task_id}/requeue": {"post"},
        "/v1/dead-letters/{task_id}": {"delete"},
    }
    answers = chain(*(paths[path][method]["responses"] for path, methods in described.items() for method in methods))
    assert {"200", "201", "204", "404", "410", "422", "429", "503"} <= set(answers)
