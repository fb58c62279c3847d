"""Limits of tenants and API keys, over HTTP: who is refused, what is told, what is left behind, and by which control
plane: several of one deployment refuse together.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from tailplane.broker import Broker, TaskRef, TenantRecord
from tailplane.broker.api_keys import NewKey
from tailplane.control_plane import Settings, create_app
from tailplane.control_plane.access import ANYBODY
from tailplane.control_plane.open_streams import Place
from tailplane.protocol.credentials import ApiKey, StreamToken
from tailplane.protocol.errors import TooManyReaders
from tailplane.protocol.ids import TaskId, new_key_id
from tailplane.protocol.scopes import Action, Scope
from tailplane.protocol.states import Trigger

from .conftest import Fleet, client_of

# One at once, and another one much later than any test ends.
SLOW = 0.001
KEY = {"Idempotency-Key": "order 67"}
ADMIN = ApiKey.draw(new_key_id())

SignIn = Callable[..., Awaitable[httpx2.AsyncClient]]
Limit = Callable[..., Awaitable[TenantRecord]]


@pytest.fixture
def limit(app: FastAPI) -> Limit:
    """Set limits of a tenant, and let the control plane know at once."""

    async def limit(tenant: str = "default", **limits: Any) -> TenantRecord:
        services = app.state.services
        record: TenantRecord = await services.broker.tenants.set_limits(TenantRecord(tenant, **limits))
        await services.tenants.refresh()
        return record

    return limit


@pytest.fixture
async def open_ways(http: Any, broker: Broker, fleet: Fleet) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every way in which a task comes in by HTTP."""
    session = (await http.post("/v1/sessions")).json()["session_id"]
    await http.put("/v1/schedules/hourly", json={"workflow": "echo", "every_ms": 3_600_000})
    dead = (await http.post("/v1/tasks", json={"workflow": "echo"})).json()["task_id"]
    await fleet.end(await fleet.begin(dead), Trigger.FAIL, error={"code": "workflow_error", "type": "E", "message": ""})
    await broker.catalogue.note_dead(TaskRef(TaskId(dead)))
    task = {"workflow": "echo", "input": "x"}
    return {
        "task": lambda: http.post("/v1/tasks", json=task),
        "session": lambda: http.post(f"/v1/sessions/{session}/tasks", json=task),
        "wait": lambda: http.post("/v1/tasks", json=task, headers={"Prefer": "wait=30"}),
        "stream": lambda: http.post("/v1/workflows/echo/stream", json="x"),
        "trigger": lambda: http.post("/v1/schedules/hourly/trigger"),
        "requeue": lambda: http.post(f"/v1/dead-letters/{dead}/requeue"),
    }


async def kept(broker: Broker) -> set[bytes]:
    return set(await broker.redis.keys(f"{broker.keys.prefix}:*"))


async def submit(http: Any, **more: Any) -> Any:
    return await http.post("/v1/tasks", json={"workflow": "echo"}, **more)


class TestSubmits:
    @pytest.mark.parametrize("way", ["task", "session", "wait", "stream", "trigger", "requeue"])
    async def test_every_way_in_is_refused_and_leaves_nothing_behind(
        self, http: Any, broker: Broker, limit: Limit, open_ways: Any, way: str
    ) -> None:
        await limit(submits_per_second=SLOW)
        first = await submit(http)
        before = await kept(broker)

        refused = await open_ways[way]()

        assert first.status_code == 202
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (429, "rate_limited")
        assert refused.headers["content-type"] == "application/problem+json"
        assert (problem["limit"], problem["window"], problem["of"]) == (1, 1000.0, "tenant")
        assert 990 < problem["retry_after"] <= 2000
        assert problem["retry_after"] <= int(refused.headers["retry-after"]) < problem["retry_after"] + 1
        assert await kept(broker) == before

    async def test_who_may_is_told_what_is_left(self, http: Any, fleet: Fleet, limit: Limit) -> None:
        await limit(submits_per_second=3.2)

        answers = [await submit(http) for _ in range(2)]

        assert [answer.headers["ratelimit-policy"] for answer in answers] == ['"submits-tenant";q=3;w=1'] * 2
        assert [answer.headers["ratelimit"] for answer in answers] == [f'"submits-tenant";r={n};t=1' for n in (2, 1)]

    async def test_who_is_refused_is_told_the_same_way(self, http: Any, fleet: Fleet, limit: Limit) -> None:
        await limit(submits_per_second=SLOW)
        taken = await submit(http)
        refused = await submit(http)

        assert taken.headers["ratelimit"] == '"submits-tenant";r=0;t=1000'
        assert refused.headers["ratelimit-policy"] == '"submits-tenant";q=1;w=1000'
        assert refused.headers["ratelimit"] == f'"submits-tenant";r=0;t={refused.headers["retry-after"]}'

    async def test_who_has_no_limit_is_asked_nothing(self, http: Any, broker: Broker, fleet: Fleet) -> None:
        answer = await submit(http)

        assert answer.status_code == 202
        assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)
        assert await broker.redis.keys(f"{broker.keys.rate('')}*") == []

    async def test_a_known_request_gets_its_answer_and_takes_nothing(
        self, http: Any, fleet: Fleet, limit: Limit
    ) -> None:
        await limit(submits_per_second=SLOW)
        first = await submit(http, headers=KEY)
        refused = await submit(http)
        again = await submit(http, headers=KEY)
        conflict = await http.post("/v1/tasks", json={"workflow": "echo", "input": "another"}, headers=KEY)

        assert (first.status_code, refused.status_code, conflict.status_code) == (202, 429, 409)
        assert (again.status_code, again.json()) == (202, first.json())

    async def test_what_can_not_be_run_takes_nothing(self, http: Any, fleet: Fleet, limit: Limit) -> None:
        await limit(submits_per_second=SLOW)

        assert (await http.post("/v1/tasks", json={"workflow": "nothing"})).status_code == 404
        assert (await http.post("/v1/tasks", json={"workflow": "count", "input": "x"})).status_code == 422
        assert (await submit(http)).status_code == 202

    async def test_a_schedule_s_own_firing_is_not_asked(
        self, http: Any, app: FastAPI, fleet: Fleet, limit: Limit
    ) -> None:
        await limit(submits_per_second=SLOW)
        assert (await submit(http)).status_code == 202
        await http.put("/v1/schedules/soon", json={"workflow": "echo", "every_ms": 1000})
        async with asyncio.timeout(30):
            while app.state.services.counts.fired == 0:
                await app.state.services.scheduler.fire_due()
                await asyncio.sleep(0.05)
        assert (await submit(http)).status_code == 429

    async def test_it_counts_what_it_refuses_by_its_reason(
        self, http: Any, app: FastAPI, fleet: Fleet, limit: Limit
    ) -> None:
        await limit(submits_per_second=SLOW)
        await submit(http)
        await submit(http)

        counts = app.state.services.counts
        assert counts.submitted == {("echo", "default"): 1}
        assert counts.refused == {("echo", "default", "rate_limited"): 1}


class TestStored:
    async def test_who_has_written_too_much_is_refused_until_it_leaves(
        self, http: Any, broker: Broker, fleet: Fleet, limit: Limit
    ) -> None:
        await limit(max_stored_bytes=1000)
        await broker.usage.note_stored({"default": 1000})

        refused = await submit(http)

        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (429, "quota_exceeded")
        assert (problem["stored"], problem["limit"]) == (1000, 1000)
        retention = broker.usage.retention.total_seconds()
        assert retention < problem["retry_after"] < 1.2 * retention
        assert refused.headers["ratelimit-policy"] == '"stored-tenant";q=1000;qu="content-bytes"'
        assert refused.headers["ratelimit"] == f'"stored-tenant";r=0;t={refused.headers["retry-after"]}'

    async def test_inputs_count_at_once(
        self, http: Any, app: FastAPI, broker: Broker, fleet: Fleet, limit: Limit
    ) -> None:
        await limit(max_stored_bytes=1000)
        task = {"workflow": "echo", "input": "x" * 600}

        answers = [(await http.post("/v1/tasks", json=task)).status_code for _ in range(3)]

        assert answers == [202, 202, 429]
        await app.state.services.stored.refresh()
        assert 1200 < (await broker.usage.stored(["default"]))["default"].count < 1300

    async def test_what_is_kept_beside_tasks_counts_and_is_refused_as_well(
        self, http: Any, app: FastAPI, broker: Broker, fleet: Fleet, limit: Limit
    ) -> None:
        await limit(max_stored_bytes=2000)
        hourly = {"workflow": "echo", "every_ms": 3_600_000, "input": "x" * 600}
        opened = await http.post("/v1/sessions", json={"metadata": {"note": "x" * 500}}, headers=KEY)
        value = f"/v1/sessions/{opened.json()['session_id']}/state/plan"
        assert (await http.put(value, json={"value": "x" * 600})).status_code == 200
        assert (await http.put("/v1/schedules/hourly", json=hourly)).status_code == 201
        await app.state.services.stored.refresh()
        written = (await broker.usage.stored(["default"]))["default"].count
        assert 1700 < written < 1800

        await limit(max_stored_bytes=written)
        refused = [
            await http.post("/v1/sessions", json={}),
            await http.put(value, json={"value": "y"}),
            await http.put("/v1/schedules/daily", json=hourly),
        ]

        assert [(each.status_code, each.json()["code"]) for each in refused] == [(429, "quota_exceeded")] * 3
        assert (await http.get(value)).json()["version"] == 1
        assert (await http.get("/v1/schedules/daily")).status_code == 404
        # What was answered is answered again.
        again = await http.post("/v1/sessions", json={"metadata": {"note": "x" * 500}}, headers=KEY)
        assert again.json()["session_id"] == opened.json()["session_id"]

    async def test_a_known_request_gets_its_answer(self, http: Any, fleet: Fleet, limit: Limit, broker: Broker) -> None:
        first = await submit(http, headers=KEY)
        await limit(max_stored_bytes=1)
        await broker.usage.note_stored({"default": 10})

        again, other = await submit(http, headers=KEY), await submit(http)

        assert (again.status_code, again.json(), other.status_code) == (202, first.json(), 429)


class TestReaders:
    @pytest.fixture
    async def second(self, settings: Settings) -> AsyncIterator[FastAPI]:
        """Another control plane of the same deployment."""
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            yield app

    async def test_one_too_many_is_refused_and_those_before_stay(
        self, http: Any, app: FastAPI, limit: Limit, submit: Any
    ) -> None:
        await limit(max_readers=2)
        task_id, services = await submit(), app.state.services
        places = [await services.turnstile.enter(ANYBODY) for _ in range(2)]

        refused = await http.get(f"/v1/tasks/{task_id}/events")

        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (429, "too_many_readers")
        assert (problem["readers"], problem["limit"], problem["of"]) == (2, 2, "tenant")
        assert 1 <= problem["retry_after"] <= 2
        assert services.counts.readers_refused == {("default",): 1}
        assert refused.headers["ratelimit-policy"] == '"readers-tenant";q=2;qu="concurrent-requests"'
        assert refused.headers["ratelimit"] == f'"readers-tenant";r=0;t={refused.headers["retry-after"]}'
        assert not any(place.is_cut for place in places)
        places[0].leave()
        (await services.turnstile.enter(ANYBODY)).leave()

    async def test_what_can_not_be_read_is_not_run(
        self, http: Any, app: FastAPI, broker: Broker, fleet: Fleet, limit: Limit
    ) -> None:
        await limit(max_readers=1)
        await app.state.services.turnstile.enter(ANYBODY)

        refused = await http.post("/v1/workflows/echo/stream", json="x")

        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_readers")
        assert await broker.catalogue.task_ids("default", None, None, 10) == []

    async def test_a_limit_holds_over_all_control_planes(self, app: FastAPI, second: FastAPI, limit: Limit) -> None:
        await limit(max_readers=3)
        here, there = app.state.services.turnstile, second.state.services.turnstile
        places = [await here.enter(ANYBODY) for _ in range(2)]
        await here.exchange()

        places.append(await there.enter(ANYBODY))

        with pytest.raises(TooManyReaders):
            await there.enter(ANYBODY)
        # The first one has not been told of the third, and asks before it lets anybody in who may be too many.
        await there.exchange()
        await here.exchange()
        with pytest.raises(TooManyReaders):
            await here.enter(ANYBODY)
        places[0].leave()
        await here.exchange()
        await let_in(there)

    async def test_of_many_at_once_as_many_are_let_in_as_may(self, app: FastAPI, limit: Limit) -> None:
        await limit(max_readers=5)
        turnstile = app.state.services.turnstile

        answers = await asyncio.gather(*(turnstile.enter(ANYBODY) for _ in range(50)), return_exceptions=True)

        assert sum(isinstance(answer, Place) for answer in answers) == 5
        assert sum(isinstance(answer, TooManyReaders) for answer in answers) == 45

    async def test_readers_of_one_that_drains_are_let_in_by_another_at_once(
        self, app: FastAPI, second: FastAPI, limit: Limit
    ) -> None:
        await limit(max_readers=3)
        here, there = app.state.services, second.state.services.turnstile
        for _ in range(3):
            await here.turnstile.enter(ANYBODY)
        await here.turnstile.exchange()
        with pytest.raises(TooManyReaders):
            await there.enter(ANYBODY)

        here.drain.set()

        await let_in(there)
        for _ in range(2):
            await there.enter(ANYBODY)

    async def test_who_has_no_limit_is_not_told_of(self, app: FastAPI, broker: Broker) -> None:
        await app.state.services.turnstile.enter(ANYBODY)
        await app.state.services.turnstile.exchange()

        assert await broker.redis.keys(f"{broker.keys.readers('')}*") == []


async def let_in(turnstile: Any) -> None:
    """Try until a stream is let in: what was asked a moment ago is not asked again at once."""
    async with asyncio.timeout(10):
        while True:
            try:
                await turnstile.enter(ANYBODY)
                return
            except TooManyReaders:
                await asyncio.sleep(0.02)


class TestKeys:
    """Where callers sign in: a tenant's keys share its limits, and each may have its own."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"auth": "keys", "admin_key": SecretStr(ADMIN.text)})

    @pytest.fixture
    async def sign_in(
        self, app: FastAPI, broker: Broker
    ) -> AsyncIterator[Callable[..., Awaitable[httpx2.AsyncClient]]]:
        async with AsyncExitStack() as opened:

            async def sign_in(tenant: str = "default", **limits: Any) -> httpx2.AsyncClient:
                new = NewKey(tenant=tenant, name="key", scopes=frozenset({Scope.SUBMIT, Scope.READ}), **limits)
                _, key = await broker.api_keys.create(new)
                client = await opened.enter_async_context(client_of(app))
                client.headers["Authorization"] = f"Bearer {key.text}"
                return client

            yield sign_in

    async def test_keys_of_a_tenant_share_its_limit(self, sign_in: Any, fleet: Fleet, limit: Limit) -> None:
        await limit(submits_per_second=SLOW)
        first, second = await sign_in(), await sign_in()

        assert (await submit(first)).status_code == 202
        assert (await submit(second)).json()["of"] == "tenant"

    async def test_a_key_may_have_less_than_its_tenant(self, sign_in: Any, fleet: Fleet, limit: Limit) -> None:
        await limit(submits_per_second=500)
        slow, plain = await sign_in(submits_per_second=SLOW), await sign_in()

        taken, refused, other = await submit(slow), await submit(slow), await submit(plain)

        assert taken.headers["ratelimit-policy"] == '"submits-tenant";q=500;w=1, "submits-key";q=1;w=1000'
        assert taken.headers["ratelimit"].endswith('"submits-key";r=0;t=1000')
        assert (refused.status_code, refused.json()["of"], other.status_code) == (429, "key", 202)

    async def test_tenants_do_not_touch_each_other_s(self, sign_in: Any, fleet: Fleet, limit: Limit) -> None:
        await limit("acme", submits_per_second=SLOW)
        acme, globex = await sign_in("acme"), await sign_in("globex")

        assert [(await submit(acme)).status_code for _ in range(2)] == [202, 429]
        assert [(await submit(globex)).status_code for _ in range(2)] == [202, 202]

    async def test_a_browser_is_told_to_come_back_in_a_stream(
        self, app: FastAPI, broker: Broker, sign_in: Any, fleet: Fleet
    ) -> None:
        record, key = await broker.api_keys.create(
            NewKey(tenant="default", name="key", scopes=frozenset({Scope.SUBMIT, Scope.READ}), max_readers=1)
        )
        signs = {"Authorization": f"Bearer {key.text}"}
        async with client_of(app) as http:
            task_id = (await submit(http, headers=signs)).json()["task_id"]
            await app.state.services.turnstile.enter(replace(ANYBODY, key_id=record.key_id))
            token = a_token(record, task_id)
            browser = await http.get(
                f"/v1/tasks/{task_id}/events", params={"token": token}, headers={"Accept": "text/event-stream"}
            )
            program = await http.get(f"/v1/tasks/{task_id}/events", headers={"Authorization": f"Bearer {token}"})

        assert (browser.status_code, browser.headers["content-type"]) == (200, "text/event-stream")
        assert browser.headers["cache-control"] == "no-store"
        assert browser.text.startswith(": too many readers\nretry: ")
        assert 1000 <= int(browser.text.split("retry: ")[1]) <= 2000
        assert (program.status_code, program.json()["of"]) == (429, "key")

    async def test_any_key_is_told_its_limits(
        self, app: FastAPI, broker: Broker, sign_in: Any, fleet: Fleet, limit: Limit
    ) -> None:
        limits = {"max_queued": 7, "max_running": 2, "max_readers": 4, "max_stored_bytes": 9000}
        await limit("acme", weight=3, submits_per_second=10, **limits)
        acme = await sign_in("acme", submits_per_second=2, max_readers=3)
        await acme.post("/v1/tasks", json={"workflow": "echo", "input": "x" * 1000})

        told = (await acme.get("/v1/limits")).json()

        key_id, stored = told.pop("key_id"), told.pop("stored_bytes")
        assert key_id.startswith("k_")
        assert 1000 < stored < 1100
        assert set(told.pop("queued")) <= {"echo"}
        assert told.pop("submits_left") in (9, 10)
        assert told["key"].pop("submits_left") in (1, 2)
        assert told == {
            **limits, "tenant": "acme", "weight": 3, "submits_per_second": 10.0,
            "running": 0, "readers": 0,
            "key": {"submits_per_second": 2.0, "max_readers": 3, "readers": 0},
        }  # fmt: skip


def a_token(record: Any, task_id: str) -> str:
    claims = StreamToken(
        token_id="probe-probe-probe",
        tenant=record.tenant,
        key_id=record.key_id,
        subject=task_id,
        actions=frozenset({Action.READ}),
        expires_ms=2**41,
    )
    return claims.sign(record.signing)


async def test_without_limits_the_answer_has_none(http: Any, app: FastAPI, fleet: Fleet, submit: Any) -> None:
    task_id = await submit()
    told = (await http.get("/v1/limits")).json()
    assert (told["tenant"], told["queued"], told["running"]) == ("default", {"echo": 1}, 0)
    assert "submits_per_second" not in told
    assert "key" not in told
    await fleet.begin(task_id)
    app.state.services.survey._last = None
    told = (await http.get("/v1/limits")).json()
    assert (told["queued"], told["running"]) == ({}, 1)
