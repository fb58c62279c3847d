"""Every route and every kind of caller: who is let in, who is not, and that those learn nothing by it."""

import asyncio
import contextlib
import dataclasses
import itertools
import re
import statistics
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.routing import BaseRoute, Route

from tailplane.broker import Broker, TaskRef
from tailplane.control_plane import Settings, create_app, workflow_registry
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id, new_task_id
from tailplane.protocol.scopes import Action, Scope
from tests.contract.http.access_callers import CONTENT, OURS, Callers, Things, bearer
from tests.contract.http.access_matrix import (
    ADMITTED,
    BODIES,
    DECIDED_BY_BODY,
    OPEN,
    REFUSED,
    ROWS,
    TOLD_FROM_MEMORY,
    Row,
)
from tests.contract.http.bare_call import call

WITH_BODIES = [row for row in ROWS if row.method in ("POST", "PUT")]
_ID = re.compile(r"[ts]_[0-9a-z]{26}")
OF_STORED_INPUTS = [row for row in ROWS if row.path.endswith(("/requeue", "/trigger"))]
# What no input of the things fits any more: the members' names are in the messages, and where they are wrong.
STRICT = {
    "allOf": [
        {"properties": {"n": {}}, "additionalProperties": False},
        {"additionalProperties": {"type": "integer"}},
    ]
}
OF_THINGS = [row for row in ROWS if row.names_something]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # One that is there from the beginning: without any the application would refuse to serve.
    first = SecretStr(ApiKey.draw(new_key_id()).text)
    return settings.model_copy(update={"auth": "keys", "admin_key": first})


@pytest.fixture
async def callers(app: FastAPI, broker: Broker, fleet: Any) -> Callers:
    callers = Callers(app, broker)
    await callers.prepare()
    return callers


def routes_of(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """Yield all routes, those of included routers too; what is neither could serve anything."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            included: Any = getattr(route, "original_router", route)
            yield from routes_of(included.routes)


async def test_each_route_has_its_row_and_each_row_its_route(app: FastAPI) -> None:
    routes = {(method, route.path) for route in routes_of(app.routes) for method in route.methods or ()}
    rows = [row.place for row in ROWS]

    assert len(rows) == len(set(rows))
    assert routes == {*rows, *OPEN}


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_each_caller_gets_what_the_table_says(row: Row, callers: Callers) -> None:
    wrong = []
    for column, status in row.cells.items():
        things = await things_for(row, callers)
        headers, query = callers.admitted(things, row.path)[column]
        before = await callers.standing(things)

        answer = await callers.call(row.method, things.url(row.path) + query, headers, BODIES.get(row.place))

        if answer.status != status:
            wrong.append((column, f"{status} expected", answer.status, answer.body))
        # What another tenant makes of its own is nobody else's business either.
        if (status >= 400 or column == "foreign") and await callers.standing(things) != before:
            wrong.append((column, f"{answer.status}, and yet something has changed"))
    assert not wrong
    assert row.cells.keys() == callers.admitted(things, row.path).keys()


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_who_may_not_read_is_told_nothing_of_what_is_in_a_thing(row: Row, callers: Callers) -> None:
    for column in ("submit", "cancel", "task cancel", "task answer", "session cancel", "session answer"):
        things = await things_for(row, callers)
        headers, query = callers.admitted(things, row.path)[column]
        answer = await callers.call(row.method, things.url(row.path) + query, headers, BODIES.get(row.place))
        assert CONTENT not in answer.body.decode(), column


@pytest.mark.parametrize("row", OF_STORED_INPUTS, ids=str)
async def test_who_may_not_read_is_told_nothing_of_a_stored_input_that_no_longer_fits(
    row: Row, callers: Callers, fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_registry, "CACHE_TTL", 0.0)
    things = await things_for(row, callers)
    await fleet.register(echo=STRICT)
    said = {}
    for column in ("submit", "submit+read"):
        answer = await callers.call(row.method, things.url(row.path), bearer(callers.keys[column].text))
        assert (answer.status, answer.json()["code"]) == (422, "invalid_input")
        said[column] = answer
    assert CONTENT not in said["submit"].body.decode()
    assert "errors" not in said["submit"].json()
    # The test can fail: who may read is told.
    errors = said["submit+read"].json()["errors"]
    assert [CONTENT] in [error["loc"] for error in errors]
    assert any(CONTENT in error["msg"] for error in errors)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_nobody_comes_in_with_a_credential_that_is_not_good(row: Row, callers: Callers) -> None:
    things = await things_for(row, callers)
    before = await callers.standing(things)
    refused = callers.refused(things, row.path)
    assert refused.keys() == REFUSED.keys()
    wrong = []
    for who, (headers, query) in refused.items():
        answer = await callers.call(row.method, things.url(row.path) + query, headers, BODIES.get(row.place))
        if (answer.status, answer.json()["code"]) != (401, REFUSED[who]):
            wrong.append((who, answer.status, answer.body))
    assert not wrong
    assert await callers.standing(things) == before


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_both_secrets_of_a_key_that_was_rotated_are_good(row: Row, callers: Callers) -> None:
    rotated = callers.rotated()
    assert set(rotated) == set(ADMITTED)
    for who, headers in rotated.items():
        things = await things_for(row, callers)
        answer = await callers.call(row.method, things.url(row.path), headers, BODIES.get(row.place))
        assert answer.status == row.ok, (who, answer.body)


async def test_a_secret_is_good_from_the_moment_on_in_which_it_was_made(callers: Callers, broker: Broker) -> None:
    key = callers.keys[Scope.READ]
    assert (await callers.call("GET", "/v1/tasks", bearer(key.text))).status == 200

    _, new = await broker.api_keys.rotate(key.record.key_id, timedelta(minutes=10))

    # The key is known here, as it was before.
    for secret in (new.text, key.text):
        assert (await callers.call("GET", "/v1/tasks", bearer(secret))).status == 200


async def test_what_was_good_a_moment_ago_ends_with_its_key(callers: Callers, app: FastAPI, broker: Broker) -> None:
    things = await callers.things()
    key, url = callers.keys[Scope.ADMIN], f"/v1/tasks/{things.task}"
    credentials = [key.text, callers.token(things.task, [Action.READ])]
    for _ in range(2):
        assert [(await callers.call("GET", url, bearer(each))).status for each in credentials] == [200, 200]

    await broker.api_keys.revoke(key.record.key_id)
    await app.state.services.doorkeeper.look()

    assert [(await callers.call("GET", url, bearer(each))).status for each in credentials] == [401, 401]


async def test_what_is_open_to_all_asks_nobody(app: FastAPI) -> None:
    for (method, path), status in OPEN.items():
        for headers in ({}, bearer("tp_x"), {"Authorization": "Basic eDp4"}):
            assert (await call(app, method, path, headers=headers)).status == status, (method, path, headers)


@pytest.mark.parametrize("row", WITH_BODIES, ids=str)
async def test_nothing_is_read_of_the_body_of_who_is_not_let_in(row: Row, callers: Callers) -> None:
    things = await things_for(row, callers)
    url = things.url(row.path)
    scopeless = next((callers.keys[scope] for scope in Scope if row.cells[scope] == 403), None)

    async def sent(headers: dict[str, str], said: dict[str, str], piece: bytes) -> tuple[int, int, int]:
        read = []

        def pieces() -> Iterator[bytes]:
            # Without an end: who reads it all never answers.
            while True:
                read.append(piece)
                yield piece

        answer = await call(callers.app, row.method, url, headers=headers | said, pieces=pieces())
        return answer.status, answer.pieces_read, len(read)

    large = {"Content-Type": "application/json", "Content-Length": str(10 * 1024 * 1024)}
    endless = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    # Such as would get 413, 415 or 422 otherwise.
    for said in (large, endless, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        assert await sent({}, said, b"{" * 65536) == (401, 0, 0)
        if scopeless is not None and row.place not in DECIDED_BY_BODY:
            assert await sent(bearer(scopeless.text), said, b"{" * 65536) == (403, 0, 0)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_who_is_not_let_in_is_not_told_what_is_wrong_with_the_request(row: Row, callers: Callers) -> None:
    # Names of nothing, ids that are none, headers and a query that do not fit.
    malformed = row.path.format(task_id="x", session_id="x", name="%20", key="%20", key_id="x", token_id="x")
    headers = {"Idempotency-Key": "", "If-Match": "x", "Accept": "image/png", "Last-Event-ID": "x"}
    query = "?limit=0&page=x&wait=x&from=x&cancel=x&state=x"
    for url in (malformed + query, Things.nobodys().url(row.path)):
        answer = await callers.call(row.method, url, headers)
        assert (answer.status, answer.json()["code"]) == (401, "unauthenticated"), url


async def test_what_the_router_refuses_it_refuses_alike_whoever_asks(callers: Callers) -> None:
    things = await callers.things()
    for method, url, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", f"/v1/tasks/{things.task}/", 404),
        ("PATCH", f"/v1/tasks/{things.task}", 405),
        ("DELETE", "/v1/tasks", 405),
    ):
        answers = [
            await callers.call(method, url, headers)
            for headers in ({}, bearer(callers.keys[Scope.ADMIN].text), bearer(callers.keys["foreign"].text))
        ]
        assert [answer.status for answer in answers] == [status] * 3
        assert len({answer.body for answer in answers}) == 1


@pytest.mark.parametrize("row", OF_THINGS, ids=str)
async def test_what_is_another_tenants_is_as_if_it_never_was(
    row: Row, callers: Callers, valkey: EmbeddedServer, settings: Settings
) -> None:
    foreign = bearer(callers.keys["foreign"].text)
    shown = []
    async with monitoring(valkey, settings.prefix) as commands:
        # Once before: a script that the server does not have yet is sent to it.
        await callers.call(row.method, Things.nobodys().url(row.path), foreign, BODIES.get(row.place))
        for things in (await things_for(row, callers), Things.nobodys()):
            await commands()
            answer = await callers.call(row.method, things.url(row.path), foreign, BODIES.get(row.place))
            sent = shapes(await commands(), things)
            shown.append((answer.status, answer.headers, masked(answer.body.decode(), things), sent))
    if row.place in TOLD_FROM_MEMORY:
        assert shown[0][:3] == shown[1][:3]
    else:
        assert shown[0] == shown[1]
        # Something was looked up.
        assert shown[0][3]
    assert shown[0][0] == 404
    # And nothing of the tenant that has it.
    assert not [command for command in shown[0][3] if f":{OURS}:" in command]


@pytest.mark.parametrize("path", ["/v1/tasks/{task_id}", "/v1/tasks/{task_id}/events"])
async def test_a_sessions_token_does_not_tell_which_tasks_others_have(
    path: str, callers: Callers, valkey: EmbeddedServer, settings: Settings
) -> None:
    shown = []
    async with monitoring(valkey, settings.prefix) as commands:
        for task in ((await callers.things()).other_task, new_task_id()):
            things = await callers.things()
            token = callers.token(things.session, [Action.READ])
            named = dataclasses.replace(Things.nobodys(), task=task)
            await commands()
            answer = await callers.call("GET", named.url(path), bearer(token))
            sent = shapes(await commands(), named)
            shown.append((answer.status, answer.headers, masked(answer.body.decode(), named), sent))
    assert shown[0] == shown[1]
    assert shown[0][0] == 404


async def test_what_has_gone_is_gone_for_its_own_tenant_alone(callers: Callers, broker: Broker) -> None:
    things = await callers.things()
    await broker.catalogue.note_gone(OURS, [things.task])
    ref = TaskRef(things.task, OURS)
    await broker.redis.delete(broker.keys.task(ref), broker.keys.stream(ref))
    statuses = {}
    for who in (Scope.ADMIN, "foreign"):
        answer = await callers.call("GET", f"/v1/tasks/{things.task}", bearer(callers.keys[who].text))
        statuses[who] = answer.status, answer.json()["code"]
    assert statuses == {Scope.ADMIN: (410, "task_gone"), "foreign": (404, "task_not_found")}


async def test_what_is_another_tenants_takes_as_long_to_be_refused_as_what_never_was(callers: Callers) -> None:
    """Coarse: that the same is asked of Redis says more, see above."""
    things, foreign = await callers.things(), bearer(callers.keys["foreign"].text)
    took: dict[str, list[float]] = {"theirs": [], "nobody's": []}
    for _ in range(200):
        for whose, task in (("theirs", things.task), ("nobody's", new_task_id())):
            began = time.perf_counter()
            answer = await callers.call("GET", f"/v1/tasks/{task}", foreign)
            took[whose].append(time.perf_counter() - began)
            assert answer.status == 404
    ratio = statistics.median(took["theirs"]) / statistics.median(took["nobody's"])
    assert 1 / 1.5 < ratio < 1.5


@pytest.mark.parametrize("auth", [None, "none"])
async def test_without_keys_every_route_serves_programs_of_this_machine(auth: Any, settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"auth": auth}))
    async with app.router.lifespan_context(app):
        await _serves_this_machine(app, auth)


async def _serves_this_machine(app: FastAPI, auth: str | None) -> None:
    # The page of anybody's, and the name of anybody's that leads here (DNS rebinding).
    strangers = ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"})
    for row in ROWS:
        url, body = Things.nobodys().url(row.path), BODIES.get(row.place)
        here = await call(app, row.method, url, headers={"Host": "localhost:8420"}, json_body=body)
        assert here.status not in (401, 403), row
        for headers in strangers:
            said = {"Host": "127.0.0.1:8420"} | headers
            answer = await call(app, row.method, url, headers=said, json_body=body)
            assert (answer.status == 403) is (auth is None), (row, headers)


async def test_the_document_says_what_each_route_takes(app: FastAPI) -> None:
    document = (await call(app, "GET", "/openapi.json")).json()
    for row in ROWS:
        operation = document["paths"][row.path][row.method.lower()]
        takes = {name for way in operation["security"] for name in way}
        tokens = {"token"} if row.cells["theirs"] == 404 else set()
        by_query = {"token_in_query"} if row.cells["query"] == row.ok else set()
        assert takes == {"key"} | tokens | by_query, row
        assert {"401", "403"} <= operation["responses"].keys(), row
    for (method, path), _ in OPEN.items():
        if operation := document["paths"].get(path, {}).get(method.lower()):
            assert "security" not in operation


async def things_for(row: Row, callers: Callers) -> Things:
    """Return new things, in which the row's request finds what it is about."""
    things = await callers.things()
    if "/dead-letters/" in row.path:
        await callers.fail(things.task)
    return things


@contextlib.asynccontextmanager
async def monitoring(valkey: EmbeddedServer, prefix: str) -> AsyncIterator[Any]:
    """Give what returns the commands that the server has got since it was called before: the deployment's."""
    async with (
        Redis.from_url(valkey.url) as speaker,
        Redis.from_url(valkey.url) as listener,
        listener.monitor() as monitor,
    ):
        marks = itertools.count()

        async def commands() -> list[str]:
            mark = f"mark {prefix} {next(marks)}"
            await speaker.echo(mark)
            found: list[str] = []
            async with asyncio.timeout(60):
                while mark not in (command := (await monitor.next_command())["command"]):
                    found += [command] if prefix in command else []
            return found

        yield commands


def shapes(commands: list[str], things: Things) -> list[str]:
    """Return those that name one of the things, in a fixed order: they come over several connections."""
    names = names_of(things)
    return sorted(shape(command, things) for command in commands if any(name in command for name in names))


def shape(command: str, things: Things) -> str:
    """Return a command with its keys, without what else it says, such as the time."""
    verb, *words = masked(command, things).split(" ")
    keys = words[: 2 + int(words[1])] if verb.startswith("EVAL") else words[:1]
    return " ".join([verb, *keys])


def masked(text: str, things: Things) -> str:
    for number, name in enumerate(names_of(things)):
        text = text.replace(name, f"<{number}>")
    # What was drawn for this request.
    return _ID.sub("<new>", text)


def names_of(things: Things) -> tuple[str, ...]:
    return things.task, things.session, things.name, things.key, things.token
