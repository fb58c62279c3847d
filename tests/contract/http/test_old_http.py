"""HTTP/1.0, which knows no chunks, and HEAD, whose answers have no body: raw sockets, real server."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import orjson
import pytest
from starlette.routing import Route

from tailplane.broker import NewTask, TaskRef
from tailplane.control_plane import Settings, routers
from tailplane.protocol import codec
from tailplane.protocol.ids import new_key_id, new_task_id, new_worker_id
from tests.contract.hub.conftest import Author

from .test_server import Running

DEADLINE = 60


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    running = Running(settings.model_copy(update={"port": 0}))
    await running.url()
    yield running
    running.server.should_exit = True
    await asyncio.wait_for(running.serving, DEADLINE)


@pytest.fixture
async def author(running: Running) -> Author:
    broker = running.app.state.services.broker
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "test", "1", codec.pack(None)))
    begun = await broker.tasks.begin(task, new_worker_id(), "here")
    return Author(broker, task, begun, begun.seq)


class Line:
    """A connection, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, first: str, *headers: str) -> tuple[int, set[str]]:
        """Send a request without a body; return the answer's status and the lines of its head, in lower case."""
        self._writer.write("\r\n".join([first, "Host: x", *headers, "", ""]).encode())
        async with asyncio.timeout(DEADLINE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        status, *lines = head.rstrip().split("\r\n")
        return int(status.split()[1]), set(lines)

    async def rest(self) -> bytes:
        """Return what comes until the server closes the connection."""
        async with asyncio.timeout(DEADLINE):
            return await self._reader.read()

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def line(running: Running) -> AsyncIterator[Line]:
    host, port = running.server.servers[0].sockets[0].getsockname()
    line = Line(*await asyncio.open_connection(host, port))
    yield line
    line.close()


async def test_a_stream_is_sent_without_chunks_and_ends_with_the_connection(line: Line, author: Author) -> None:
    status, head = await line.ask(
        f"GET /v1/tasks/{author.task.task_id}/events HTTP/1.0", "Accept: application/x-ndjson", "Connection: keep-alive"
    )
    assert status == 200
    assert "connection: close" in head
    assert not any(each.startswith("transfer-encoding") for each in head)
    reading = asyncio.create_task(line.rest())
    # What a reader is given as it comes, more than sockets take at once, and the end.
    for number in range(50):
        await author.write(number)
        await asyncio.sleep(0)
    await author.write(*["x" * 60_000] * 4)
    await author.finish()
    events = [orjson.loads(each) for each in (await reading).splitlines() if each.strip()]
    assert [each["seq"] for each in events if "seq" in each] == list(range(1, author.seq + 1))


async def test_an_answer_with_a_length_is_as_ever(line: Line) -> None:
    # Of `100 Continue` it knows nothing.
    status, head = await line.ask("GET /healthz HTTP/1.0", "Expect: 100-continue", "Connection: keep-alive")
    assert (status, head >= {"connection: close", "content-length: 15"}) == (200, True)
    assert await line.rest() == b'{"status":"ok"}'


@pytest.fixture
async def names(running: Running, author: Author) -> dict[str, str]:
    """What stands in a path for each of its parameters, of what there is but for a key: nobody signs in."""
    await running.register()
    async with httpx2.AsyncClient(base_url=await running.url(), timeout=DEADLINE, trust_env=False) as http:
        session = (await http.post("/v1/sessions", json={})).json()["session_id"]
        made = [
            await http.put(f"/v1/sessions/{session}/state/word", json={"value": 1}),
            await http.put("/v1/schedules/leap-day", json={"workflow": "echo", "cron": "0 0 29 2 *"}),
        ]
    assert [each.is_success for each in made] == [True, True], [each.text for each in made]
    return {
        "task_id": author.task.task_id,
        "session_id": session,
        "key": "word",
        "name": "leap-day",
        "key_id": new_key_id(),
    }


async def test_head_is_answered_as_get_without_a_body(
    line: Line, running: Running, author: Author, names: dict[str, str]
) -> None:
    # One connection for all: what came after a head would be taken for the next answer.
    paths = ["/nothing", "/v1/tasks/x", "/docs"]
    for router in routers.ALL:
        paths += [
            route.path.format_map(names)
            for route in router.routes
            if isinstance(route, Route) and "GET" in (route.methods or ())
        ]
    answered = dict[str, int]()

    async def ask_for(path: str) -> None:
        said = [f"{path} HTTP/1.1", "Accept: application/json, text/event-stream, text/html"]
        answered[path], head = await line.ask(f"HEAD {said[0]}", *said[1:])
        assert not any(each.startswith("transfer-encoding") for each in head), path
        if "/events" not in path:
            other = Line(*await asyncio.open_connection(*running.server.servers[0].sockets[0].getsockname()))
            status, in_full = await other.ask(f"GET {said[0]}", *said[1:])
            other.close()
            assert (answered[path], _undated(head)) == (status, _undated(in_full)), path

    for path in paths:
        await ask_for(path)
    # While it runs, `result` has nothing but the task's state.
    assert {path for path, status in answered.items() if status != 200} == {
        "/nothing", "/v1/tasks/x", f"/v1/tasks/{author.task.task_id}/result", f"/v1/keys/{names['key_id']}"
    }  # fmt: skip
    await author.finish()
    await ask_for(f"/v1/tasks/{author.task.task_id}/result")
    assert answered[f"/v1/tasks/{author.task.task_id}/result"] == 200
    # Streams that were asked for so are over.
    assert running.app.state.services.streams.by_tenant == {}
    assert (await line.ask("PUT /healthz HTTP/1.1"))[1] >= {"allow: get, head"}


@pytest.mark.parametrize("malformed", ["BREW / HTTP/1.1", "\x01", "GET", " /"])
async def test_what_is_no_request_behind_a_head_has_the_body_that_its_length_says(line: Line, malformed: str) -> None:
    assert (await line.ask("HEAD /healthz HTTP/1.1"))[0] == 200
    status, head = await line.ask(malformed)
    assert status == 400
    assert f"content-length: {len(await line.rest())}" in head


def _undated(head: set[str]) -> set[str]:
    # The second may have changed between the two.
    return {line for line in head if not line.startswith("date:")}


async def test_what_is_refused_before_the_application_has_no_body_for_head_either(line: Line) -> None:
    status, _ = await line.ask("HEAD /healthz HTTP/1.1", "Host: y")
    assert status == 400
    assert await line.rest() == b""
