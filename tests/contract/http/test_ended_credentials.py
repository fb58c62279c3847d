"""A stream ends when its credential does: on every control plane, whatever it is doing, and without losing an event."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tailplane.broker import Broker, NewTask, TaskRef
from tailplane.client import Client, Forbidden, TaskEnded, Unauthenticated
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol import codec
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_task_id, new_worker_id
from tailplane.protocol.scopes import Scope
from tests.contract.hub.conftest import Author

from .doors import ADMIN, Watch, admit_admin, bearer, locked, make_key, token_for
from .test_server import Running

DEADLINE = 30
# Seconds within which a stream is cut, by PROTOCOL.md 2.1; the rest is for a machine that is busy with other things.
PROMISED, SLACK = 2.0, 8.0
NDJSON = {"Accept": "application/x-ndjson"}


class Plane:
    """A control plane that listens, and somebody with all rights who talks to it."""

    def __init__(self, running: Running, http: httpx2.AsyncClient) -> None:
        self.running = running
        self.http = http
        self.app = running.app

    @property
    def broker(self) -> Broker:
        broker: Broker = self.app.state.services.broker
        return broker

    def cut_count(self) -> int:
        count: int = self.app.state.services.counts.ended["cut",]
        return count


@pytest.fixture
async def planes(valkey: EmbeddedServer) -> AsyncIterator[list[Plane]]:
    """Two control planes of one deployment."""
    settings = locked(valkey)
    async with AsyncExitStack() as stack:
        planes = []
        for _ in range(2):
            running = Running(settings)
            url = await running.url()
            http = httpx2.AsyncClient(base_url=url, headers=bearer(ADMIN.text), timeout=DEADLINE)
            planes.append(Plane(running, await stack.enter_async_context(http)))
        await admit_admin(planes[0].broker.api_keys)
        yield planes
        for plane in planes:
            plane.running.server.should_exit = True
        await asyncio.wait_for(asyncio.gather(*(plane.running.serving for plane in planes)), DEADLINE)


@pytest.fixture
async def author(planes: list[Plane]) -> Author:
    """Who writes a task that runs."""
    broker = planes[0].broker
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "test", "1", codec.pack(None)))
    begun = await broker.tasks.begin(task, new_worker_id(), "here")
    return Author(broker, task, begun, begun.seq)


class Listener:
    """Reads a stream of lines for as long as it lasts."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.lines: list[str] = []
        self.has_begun = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self.response.aiter_lines():
            self.lines.append(line)
            self.has_begun.set()

    async def ended(self) -> float:
        """Wait for the response's proper end; return how long that took, in seconds."""
        began = time.monotonic()
        await asyncio.wait_for(self.reading, PROMISED + SLACK)
        return time.monotonic() - began

    @property
    def seqs(self) -> list[int]:
        return [json.loads(line)["seq"] for line in self.lines if "seq" in line]


@asynccontextmanager
async def listening(plane: Plane, credential: str, path: str, **options: Any) -> AsyncIterator[Listener]:
    options.setdefault("headers", {})
    options["headers"] = bearer(credential) | options["headers"]
    async with plane.http.stream(options.pop("method", "GET"), path, **options) as response:
        assert response.status_code == 200, await response.aread()
        listener = Listener(response)
        await asyncio.wait_for(listener.has_begun.wait(), DEADLINE)
        yield listener
        listener.reading.cancel()


async def code_of(plane: Plane, credential: str, path: str) -> tuple[int, str]:
    response = await plane.http.get(path, headers=bearer(credential))
    return response.status_code, response.json()["code"]


async def test_what_is_revoked_on_one_is_cut_on_the_other(planes: list[Plane], author: Author) -> None:
    here, there = planes
    path = f"/v1/tasks/{author.task.task_id}/events"
    gone, kept = [await token_for(here.http, f"tasks/{author.task.task_id}") for _ in range(2)]
    async with (
        listening(there, gone["token"], path) as cut,
        listening(there, kept["token"], path, headers=NDJSON) as other,
    ):
        assert (await here.http.delete(f"/v1/tokens/{gone['token_id']}")).status_code == 204
        await cut.ended()
        # A proper end, which asks the client to come again.
        assert cut.lines[-2].startswith("retry: ")
        assert await code_of(there, gone["token"], path) == (401, "unauthenticated")
        assert there.cut_count() == 1
        # Another token of the same key goes on.
        await author.write("still here")
        async with asyncio.timeout(DEADLINE):
            while author.seq not in other.seqs:
                await asyncio.sleep(0.01)


async def test_a_revoked_key_ends_its_streams_and_those_of_its_tokens(planes: list[Plane], author: Author) -> None:
    here, there = planes
    key, task = await make_key(here.broker.api_keys, Scope.READ), author.task.task_id
    other = await make_key(here.broker.api_keys, Scope.READ)
    path, token = f"/v1/tasks/{task}/events", await _token_by(key, here, f"tasks/{task}")
    async with (
        listening(here, key.text, path) as first,
        listening(there, key.text, path) as second,
        listening(there, token, path) as third,
        listening(there, other.text, path) as fourth,
    ):
        await here.broker.api_keys.revoke(key.key_id)
        for listener in (first, second, third):
            await listener.ended()
        assert not fourth.reading.done()
        for credential in (key.text, token):
            assert await code_of(there, credential, path) == (401, "unauthenticated")
        assert (here.cut_count(), there.cut_count()) == (1, 2)
        streams = there.app.state.services.streams
        assert (streams.of_key(key.key_id), streams.of_key(other.key_id), streams.of_tenant("default")) == (0, 1, 1)


async def _token_by(key: ApiKey, plane: Plane, where: str) -> str:
    response = await plane.http.post(f"/v1/{where}/tokens", headers=bearer(key.text))
    assert response.status_code == 201, response.text
    token: str = response.json()["token"]
    return token


async def test_an_expired_token_s_stream_is_cut_and_nothing_is_lost(planes: list[Plane], author: Author) -> None:
    """While its task writes flat out, as when entries are pushed past the response's own task."""
    here, there = planes
    where = f"tasks/{author.task.task_id}"
    issued = await token_for(here.http, where)
    watch = Watch.of(there.app)
    watch.stop_at(issued["expires_at"] - 0.001)
    is_over = asyncio.Event()

    async def write() -> None:
        while not is_over.is_set():
            await author.write(*range(20))
            await asyncio.sleep(0)
        await author.finish()

    writing = asyncio.create_task(write())
    async with listening(there, issued["token"], f"/v1/{where}/events", headers=NDJSON) as cut:
        async with asyncio.timeout(DEADLINE):
            while len(cut.seqs) < 200:
                await asyncio.sleep(0.01)
        watch.stop_at(issued["expires_at"])
        await cut.ended()
    assert await code_of(there, issued["token"], f"/v1/{where}/events") == (401, "credential_expired")
    # From its cursor on, with a fresh one.
    watch.doorkeeper.clock = time.time
    fresh = (await token_for(there.http, where))["token"]
    async with listening(
        there, fresh, f"/v1/{where}/events", headers=NDJSON | {"Last-Event-ID": str(cut.seqs[-1])}
    ) as rest:
        is_over.set()
        await writing
        await rest.ended()
    assert cut.seqs + rest.seqs == list(range(1, author.seq + 1))


async def test_a_client_that_does_not_read_is_cut_in_the_middle(planes: list[Plane], author: Author) -> None:
    here, there = planes
    issued = await token_for(here.http, f"tasks/{author.task.task_id}")
    url = urlsplit(str(there.http.base_url))
    streams, key = there.app.state.services.streams, ADMIN.key_id
    with socket.create_connection((url.hostname or "", url.port or 0)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        target = f"/v1/tasks/{author.task.task_id}/events?token={issued['token']}"
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            # Until more is on its way than sockets take.
            while there.app.state.services.counts.slow == 0:
                await author.write(*["x" * 60_000] * 4)
        assert streams.of_key(key) == 1
        assert (await here.http.delete(f"/v1/tokens/{issued['token_id']}")).status_code == 204
        async with asyncio.timeout(PROMISED + SLACK):
            while streams.of_key(key):
                await asyncio.sleep(0.01)
    assert there.cut_count() == 1


async def test_the_stream_of_a_session_is_cut(planes: list[Plane]) -> None:
    here, there = planes
    session = (await here.http.post("/v1/sessions")).json()["session_id"]
    issued = await token_for(here.http, f"sessions/{session}")
    path = f"/v1/sessions/{session}/events"
    async with listening(there, issued["token"], path) as cut:
        await here.http.delete(f"/v1/tokens/{issued['token_id']}")
        await cut.ended()
    assert cut.lines[-2].startswith("retry: ")
    assert await code_of(there, issued["token"], path) == (401, "unauthenticated")


async def test_a_stream_that_a_submit_has_opened_is_cut(planes: list[Plane]) -> None:
    here, there = planes
    await there.running.register()
    key = await make_key(here.broker.api_keys, Scope.SUBMIT, Scope.READ)
    async with listening(there, key.text, "/v1/workflows/echo/stream", method="POST", json=1) as cut:
        await here.broker.api_keys.revoke(key.key_id)
        await cut.ended()
    task = cut.response.headers["tailplane-task-id"]
    # The task itself goes on.
    assert (await there.http.get(f"/v1/tasks/{task}")).json()["state"] == "queued"


async def test_a_key_that_expires_ends_its_streams(planes: list[Plane], author: Author) -> None:
    _, there = planes
    key, path = await make_key(there.broker.api_keys, Scope.READ), f"/v1/tasks/{author.task.task_id}/events"
    async with listening(there, key.text, path) as cut:
        await there.broker.redis.hset(there.broker.keys.api_key(key.key_id), "expires_at", str(time.time()))
        await cut.ended()
    assert await code_of(there, key.text, path) == (401, "credential_expired")


async def test_an_answer_that_is_held_back_is_not_for_whose_key_was_revoked_meanwhile(
    planes: list[Plane], author: Author
) -> None:
    here, there = planes
    key, path = await make_key(here.broker.api_keys, Scope.READ), f"/v1/tasks/{author.task.task_id}"
    held = [
        asyncio.ensure_future(there.http.get(f"{path}/result?wait=60", headers=bearer(text)))
        for text in (key.text, ADMIN.text)
    ]
    async with asyncio.timeout(DEADLINE):
        while there.app.state.services.ends.waiting_count < len(held):
            await asyncio.sleep(0.01)
    await here.broker.api_keys.revoke(key.key_id)
    await there.app.state.services.doorkeeper.look()
    assert (await here.http.post(f"{path}/cancel")).json()["state"] == "cancelled"
    refused, told = await asyncio.wait_for(asyncio.gather(*held), DEADLINE)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert (told.status_code, told.json()["state"]) == (200, "cancelled")


async def test_nor_is_the_end_of_what_it_has_submitted(planes: list[Plane]) -> None:
    here, there = planes
    await there.running.register()
    key = await make_key(here.broker.api_keys, Scope.SUBMIT, Scope.READ)
    session = (await here.http.post("/v1/sessions")).json()["session_id"]
    body = {"workflow": "echo", "input": 1}
    held = [
        asyncio.ensure_future(there.http.post(path, json=body, headers=bearer(text) | {"Prefer": "wait=60"}))
        for path in ("/v1/tasks", f"/v1/sessions/{session}/tasks")
        for text in (key.text, ADMIN.text)
    ]
    async with asyncio.timeout(DEADLINE):
        while len(tasks := (await here.http.get("/v1/tasks")).json()["tasks"]) < len(held):
            await asyncio.sleep(0.01)
    await here.broker.api_keys.revoke(key.key_id)
    await there.app.state.services.doorkeeper.look()
    for task in tasks:
        assert (await here.http.post(f"/v1/tasks/{task['task_id']}/cancel")).json()["state"] == "cancelled"
    answers = await asyncio.wait_for(asyncio.gather(*held), DEADLINE)
    assert [answer.status_code for answer in answers] == [401, 200] * 2
    assert {answer.json().get("code") for answer in answers[::2]} == {"unauthenticated"}


class Backend:
    """An application's backend: gives its pages tokens, each of which ends when the test says so."""

    def __init__(self, plane: Plane, where: str) -> None:
        self._plane = plane
        self._where = where
        self.issued: list[Any] = []

    async def __call__(self) -> str:
        self.issued.append(await token_for(self._plane.http, self._where, actions=["read", "answer", "cancel"]))
        token: str = self.issued[-1]["token"]
        return token


async def test_our_client_reads_on_through_the_ends_of_its_tokens(planes: list[Plane], author: Author) -> None:
    """By expiry, and by being revoked; while its task writes. Nothing is lost, and nothing comes twice."""
    here, there = planes
    backend, watch = Backend(here, f"tasks/{author.task.task_id}"), Watch.of(there.app)
    await here.running.register()
    seen: list[int] = []

    async def source() -> str:
        return await backend()

    async with Client(str(there.http.base_url), api_key=source) as client:

        async def read() -> None:
            async for event in client.task(author.task.task_id).events():
                seen.append(event.seq)

        reading = asyncio.create_task(read())
        async with asyncio.timeout(DEADLINE):
            for step in range(4):
                await _until_seen(author, seen)
                had = len(backend.issued)
                if step % 2:
                    # Not known to the client before the control plane says so.
                    watch.stop_at(backend.issued[-1]["expires_at"])
                else:
                    await here.http.delete(f"/v1/tokens/{backend.issued[-1]['token_id']}")
                while len(backend.issued) == had:
                    await author.write("meanwhile")
                    await asyncio.sleep(0.01)
                watch.doorkeeper.clock = time.time
                await _until_seen(author, seen)
            await author.finish()
            await reading
        assert seen == list(range(1, author.seq + 1))
        assert len(backend.issued) == 5
        assert there.cut_count() == 4
        # With the same credential it answers a question, and does nothing else.
        with pytest.raises(TaskEnded):
            await client.task(author.task.task_id).send_event("yes")
        with pytest.raises(Forbidden):
            await client.run_workflow("echo")


async def _until_seen(author: Author, seen: list[int]) -> None:
    await author.write("a", "b")
    while not seen or seen[-1] < author.seq:
        await asyncio.sleep(0.01)


async def test_our_client_issues_and_revokes(planes: list[Plane], author: Author) -> None:
    here, there = planes
    async with Client(str(here.http.base_url), api_key=ADMIN.text) as client:
        token = await client.task(author.task.task_id).stream_token(actions=["read"], expires_in=10)
        async with client.start_session() as session:
            of_session = await session.stream_token()
            assert of_session.subject == session.session_id
        assert token.subject == author.task.task_id
        async with Client(str(there.http.base_url), api_key=token.token) as page:
            assert (await page.task(author.task.task_id).status()).attempt == 1
            await client.revoke_token(token.token_id)
            async with asyncio.timeout(PROMISED + SLACK):
                with pytest.raises(Unauthenticated):
                    async for _ in page.task(author.task.task_id).events():
                        pass


async def test_what_expires_is_cut_while_redis_is_away(
    planes: list[Plane], author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, there = planes
    issued = await token_for(there.http, f"tasks/{author.task.task_id}")
    doorkeeper = there.app.state.services.doorkeeper

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with listening(there, issued["token"], f"/v1/tasks/{author.task.task_id}/events") as cut:
        monkeypatch.setattr(doorkeeper.known, "refresh", hang)
        monkeypatch.setattr(doorkeeper.revocations, "look", hang)
        Watch.of(there.app).stop_at(issued["expires_at"])
        await cut.ended()


async def test_what_can_t_be_told_ends_no_stream(planes: list[Plane], author: Author) -> None:
    """A key that is not known any more, because there are so many: it is looked up again, and its streams go on."""
    _, there = planes
    key, path = await make_key(there.broker.api_keys, Scope.READ), f"/v1/tasks/{author.task.task_id}/events"
    doorkeeper = there.app.state.services.doorkeeper
    async with listening(there, key.text, path) as listener:
        doorkeeper.known._copies.clear()
        await doorkeeper._sweep()
        assert there.cut_count() == 0
        await doorkeeper.look()
        assert doorkeeper.known.latest(key.key_id) is not None
        await doorkeeper._sweep()
        assert not listener.reading.done()
        # Nor does time that nobody uses it for anything else.
        for known in doorkeeper.known._copies.values():
            known.used_at -= 1000
        await doorkeeper.look()
        assert doorkeeper.known.latest(key.key_id) is not None
