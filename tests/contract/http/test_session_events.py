"""The route that streams a session: what it is asked, and what it answers. What is read: test_session_reader."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tailplane.protocol import codec
from tailplane.protocol.ids import new_session_id
from tailplane.protocol.session_cursor import SessionCursor, parse_session_position

MakeSession = Callable[[int], Awaitable[tuple[str, list[str]]]]


@pytest.fixture
def closed_session(http: Any, fleet: Any) -> MakeSession:
    """Make a closed session of some tasks that have succeeded; return its id and theirs."""

    async def make(count: int) -> tuple[str, list[str]]:
        session = (await http.post("/v1/sessions")).json()["session_id"]
        tasks = []
        for _ in range(count):
            answer = await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"})
            tasks.append(answer.json()["task_id"])
            await fleet.run(tasks[-1])
        await http.delete(f"/v1/sessions/{session}")
        return session, tasks

    return make


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line]


async def test_a_session_is_streamed_to_its_end(http: Any, closed_session: MakeSession) -> None:
    session, tasks = await closed_session(2)

    answer = await http.get(f"/v1/sessions/{session}/events", headers={"Accept": "application/x-ndjson"})

    assert answer.status_code == 200
    assert answer.headers["tailplane-session-id"] == session
    assert parse_session_position(answer.headers["tailplane-cursor"]) == SessionCursor()
    lines = lines_of(answer.text)
    for task in tasks:
        assert [line["seq"] for line in lines if line.get("task_id") == task] == [1, 2, 3, 4]
    ended, last = lines[-2:]
    assert ended == {"kind": "platform", "type": "session.ended"}
    assert parse_session_position(last["cursor"]) == SessionCursor(2, tasks[1][-6:], {})


async def test_behind_the_end_there_is_204(http: Any, closed_session: MakeSession) -> None:
    session, _ = await closed_session(1)
    url = f"/v1/sessions/{session}/events"
    sse = (await http.get(url)).text
    ids = [line.removeprefix("id: ") for line in sse.splitlines() if line.startswith("id: ")]

    by_header = await http.get(url, headers={"Last-Event-ID": ids[-1]})
    by_query = await http.get(url, params={"from": ids[-1]})

    assert (by_header.status_code, by_query.status_code) == (204, 204)
    assert "event: session.ended\n" in sse


async def test_behind_the_end_of_one_that_had_no_tasks_too(http: Any, closed_session: MakeSession) -> None:
    session, _ = await closed_session(0)
    url = f"/v1/sessions/{session}/events"
    first = await http.get(url)
    (cursor,) = [line.removeprefix("id: ") for line in first.text.splitlines() if line.startswith("id: ")]
    # As an EventSource does, which would ask for ever.
    again = await http.get(url, headers={"Last-Event-ID": cursor})

    assert (first.status_code, "session.ended" in first.text, again.status_code) == (200, True, 204)


async def test_the_header_wins_over_the_query(http: Any, closed_session: MakeSession) -> None:
    session, tasks = await closed_session(2)
    cursor = SessionCursor(2, tasks[1][-6:], {1: 2})

    answer = await http.get(
        f"/v1/sessions/{session}/events",
        params={"from": "start"},
        headers={"Accept": "application/x-ndjson", "Last-Event-ID": str(cursor)},
    )

    shown = [(line["task_id"], line["seq"]) for line in lines_of(answer.text) if "task_id" in line]
    assert shown == [(tasks[0], 3), (tasks[0], 4)]


async def test_our_own_client_is_told_numbers(http: Any, closed_session: MakeSession) -> None:
    session, tasks = await closed_session(1)
    answer = await http.get(
        f"/v1/sessions/{session}/events", headers={"Accept": "application/vnd.tailplane.frames+msgpack"}
    )
    unpacker = codec.unpacker(1 << 20)
    unpacker.feed(answer.content)
    keep_alive, task, *entries, ended = unpacker
    assert (keep_alive, task, ended) == (None, {"task": [1, tasks[0]]}, {"ended": True})
    assert [entry[1] for entry in entries] == [1, 2, 4]
    assert {entry[3] for entry in entries} == {1}


async def test_now_of_a_closed_session_is_its_end(http: Any, closed_session: MakeSession) -> None:
    session, _ = await closed_session(1)
    answer = await http.get(
        f"/v1/sessions/{session}/events", params={"from": "now"}, headers={"Accept": "application/x-ndjson"}
    )
    assert [line.get("type") for line in lines_of(answer.text)] == ["session.ended", None]


@pytest.mark.parametrize("cursor", ["7", "-3", "", "x" * 20_000])
async def test_what_is_no_cursor_is_422(http: Any, closed_session: MakeSession, cursor: str) -> None:
    session, _ = await closed_session(0)
    answer = await http.get(f"/v1/sessions/{session}/events", params={"from": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


async def test_a_cursor_of_another_session_is_416(http: Any, closed_session: MakeSession) -> None:
    (_, tasks), (other, _) = await closed_session(1), await closed_session(1)
    answer = await http.get(f"/v1/sessions/{other}/events", params={"from": str(SessionCursor(1, tasks[0][-6:], {}))})
    assert (answer.status_code, answer.json()["code"]) == (416, "cursor_past_end")


async def test_a_session_that_never_was_is_404(http: Any) -> None:
    answer = await http.get(f"/v1/sessions/{new_session_id()}/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


async def test_a_format_that_nobody_has_is_406(http: Any, closed_session: MakeSession) -> None:
    session, _ = await closed_session(0)
    answer = await http.get(f"/v1/sessions/{session}/events", headers={"Accept": "image/png"})
    assert answer.status_code == 406
