"""The two routes that stream: what they are asked, and the task that is made. What a stream says: test_streaming."""

from typing import Any

import pytest
from starlette.responses import Response

from tailplane.broker import Broker, TaskRef
from tailplane.control_plane import services
from tailplane.protocol import codec
from tailplane.protocol.cursor import After, Last, Now, Position
from tailplane.protocol.ids import TaskId


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Position]]:
    """What the routes ask of the streaming: task and position."""
    asked: list[tuple[str, Position]] = []

    async def stream_events(
        request: Any, hub: Any, task: TaskRef, *, position: Position, headers: Any, **_: Any
    ) -> Response:
        asked.append((task.task_id, position))
        return Response(headers=headers)

    monkeypatch.setattr(services, "stream_events", stream_events)
    return asked


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ({}, {}, After(0)),
        ({"from": "start"}, {}, After(0)),
        ({"from": "now"}, {}, Now()),
        ({"from": "-5"}, {}, Last(5)),
        ({"from": "7"}, {}, After(7)),
        ({}, {"Last-Event-ID": "9"}, After(9)),
        ({"from": "7"}, {"Last-Event-ID": "9"}, After(9)),
        ({"from": "7"}, {"Last-Event-ID": ""}, After(7)),
    ],
)
async def test_the_header_wins_over_the_query(
    http: Any, submit: Any, asked: Any, query: Any, headers: Any, expected: Any
) -> None:
    task_id = await submit()

    await http.get(f"/v1/tasks/{task_id}/events", params=query, headers=headers)

    assert asked == [(task_id, expected)]


@pytest.mark.parametrize("cursor", ["x", "-0", "1.5", "9" * 30, "", "end"])
async def test_what_is_no_cursor_is_422(http: Any, submit: Any, asked: Any, cursor: str) -> None:
    response = await http.get(f"/v1/tasks/{await submit()}/events", params={"from": cursor})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")
    assert asked == []


async def test_submit_and_stream_is_one_call(http: Any, broker: Broker, fleet: Any, asked: Any) -> None:
    response = await http.post("/v1/workflows/count/stream", json={"n": 3})

    ((task_id, position),) = asked
    assert position == After(0)
    assert response.headers["location"] == f"/v1/tasks/{task_id}"
    record = await broker.tasks.read(TaskRef(TaskId(task_id)), ("task_id", "state", "input", "workflow"))
    assert (record.workflow, codec.unpack(record.input)) == ("count", {"n": 3})


async def test_no_body_is_no_input(http: Any, broker: Broker, fleet: Any, asked: Any) -> None:
    await http.post("/v1/workflows/echo/stream")

    record = await broker.tasks.read(TaskRef(TaskId(asked[0][0])), ("task_id", "state", "input"))
    assert codec.unpack(record.input) is None


async def test_the_same_request_streams_the_same_task(http: Any, fleet: Any, asked: Any) -> None:
    for _ in range(2):
        await http.post("/v1/workflows/count/stream", json={"n": 3}, headers={"Idempotency-Key": "k"})

    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("nobody", 1, "unknown_workflow"), ("no%20name", 1, "unknown_workflow"), ("count", "x", "invalid_input")],
)
async def test_what_cannot_run_is_not_streamed(
    http: Any, fleet: Any, asked: Any, name: str, value: Any, code: str
) -> None:
    response = await http.post(f"/v1/workflows/{name}/stream", json=value)

    assert response.json()["code"] == code
    assert asked == []
