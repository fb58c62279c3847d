"""Stream tokens: who gets one, what it opens and what it does not, and how it ends."""

import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from tailplane.broker import Broker
from tailplane.broker.api_keys import NewKey
from tailplane.broker.revoked_tokens import Revoked
from tailplane.control_plane import Settings
from tailplane.control_plane.revocations import MOST_OF_A_TENANT
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.credentials import SignedToken, StreamToken, new_token_id
from tailplane.protocol.ids import new_key_id, new_session_id, new_task_id
from tailplane.protocol.scopes import Action, Scope

from .conftest import client_of
from .doors import ADMIN, Watch, admit_admin, bearer, key_id_of, locked, make_key, token_for


@pytest.fixture
def settings(valkey: EmbeddedServer) -> Settings:
    return locked(valkey)


@pytest.fixture
async def http(app: FastAPI, broker: Broker) -> AsyncIterator[httpx2.AsyncClient]:
    """Whoever has all rights."""
    await admit_admin(broker.api_keys)
    async with client_of(app) as client:
        client.headers.update(bearer(ADMIN.text))
        yield client


@pytest.fixture
async def page(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser's page, which has nothing but what it is given."""
    async with client_of(app) as client:
        yield client


async def session_of(http: Any) -> str:
    session: str = (await http.post("/v1/sessions")).json()["session_id"]
    return session


async def task_in(http: Any, session: str) -> str:
    task: str = (await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"})).json()["task_id"]
    return task


def said(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


class TestIssuing:
    async def test_a_token_says_what_it_is(self, http: Any, submit: Any) -> None:
        task, began = await submit(), time.time()

        response = await http.post(f"/v1/tasks/{task}/tokens")

        assert response.status_code == 201
        assert response.headers["cache-control"] == "no-store"
        issued = response.json()
        assert issued.keys() == {"token", "token_id", "subject", "actions", "expires_at"}
        assert (issued["subject"], issued["actions"]) == (task, ["read"])
        assert 599 < issued["expires_at"] - began < 630
        claimed = SignedToken.parse(issued["token"]).claimed
        assert claimed.token_id == issued["token_id"]
        assert (claimed.tenant, claimed.key_id, claimed.subject) == ("default", ADMIN.key_id, task)

    async def test_it_is_for_what_was_asked_and_so_long(self, http: Any) -> None:
        issued = await token_for(http, f"sessions/{await session_of(http)}", actions=["answer", "read"], expires_in=10)
        assert issued["actions"] == ["answer", "read"]
        assert issued["expires_at"] - time.time() < 11

    @pytest.mark.parametrize(
        "body",
        [
            {"expires_in": 9.99},
            {"expires_in": 3600.1},
            {"actions": []},
            {"actions": ["submit"]},
            {"actions": ["read"] * 4},
            {"subject": "t_x"},
            [],
        ],
    )
    async def test_what_can_t_be_a_token_is_refused(self, http: Any, submit: Any, body: object) -> None:
        assert said(await http.post(f"/v1/tasks/{await submit()}/tokens", json=body)) == (422, "invalid_request")

    @pytest.mark.parametrize(
        ("scope", "action", "lacking"),
        [("read", "cancel", "cancel"), ("read", "answer", "submit"), ("submit", "read", "read")],
    )
    async def test_nobody_gives_away_what_they_may_not_do(
        self, page: Any, broker: Broker, scope: str, action: str, lacking: str
    ) -> None:
        page.headers.update(bearer((await make_key(broker.api_keys, Scope(scope))).text))
        # Nothing is told of a task to who may not have a token for it.
        response = await page.post(f"/v1/tasks/{new_task_id()}/tokens", json={"actions": [action]})
        assert (*said(response), response.json()["missing"]) == (403, "forbidden", [lacking])

    async def test_there_is_none_for_what_is_not_the_tenant_s(
        self, http: Any, page: Any, broker: Broker, submit: Any
    ) -> None:
        task, session = await submit(), await session_of(http)
        page.headers.update(bearer((await make_key(broker.api_keys, Scope.ADMIN, tenant="other")).text))
        for where in (f"tasks/{task}", f"tasks/{new_task_id()}"):
            assert said(await page.post(f"/v1/{where}/tokens")) == (404, "task_not_found")
        for where in (f"sessions/{session}", f"sessions/{new_session_id()}"):
            assert said(await page.post(f"/v1/{where}/tokens")) == (404, "session_not_found")

    async def test_a_token_issues_none(self, http: Any, page: Any, submit: Any) -> None:
        task = await submit()
        token = (await token_for(http, f"tasks/{task}", actions=["read", "cancel", "answer"]))["token"]
        assert said(await page.post(f"/v1/tasks/{task}/tokens", headers=bearer(token))) == (403, "forbidden")

    async def test_it_does_not_outlive_its_key(self, page: Any, broker: Broker, submit: Any) -> None:
        key = await make_key(broker.api_keys, Scope.READ, life=timedelta(minutes=1))
        page.headers.update(bearer(key.text))
        issued = await token_for(page, f"tasks/{await submit()}", expires_in=3600)
        assert issued["expires_at"] <= time.time() + 60


class TestOpening:
    async def test_it_opens_its_task_and_nothing_else(self, http: Any, page: Any, fleet: Any, submit: Any) -> None:
        task, other, session = await submit(), await submit(), await session_of(http)
        headers = bearer((await token_for(http, f"tasks/{task}", actions=["read"]))["token"])
        for path in ("", "/steps", "/result"):
            assert (await page.get(f"/v1/tasks/{task}{path}", headers=headers)).status_code in (200, 202)
        for method, path in (
            ("GET", f"/v1/tasks/{other}"),
            ("GET", f"/v1/tasks/{new_task_id()}/events"),
            ("POST", f"/v1/tasks/{task}/cancel"),
            ("POST", f"/v1/tasks/{task}/events"),
            ("GET", f"/v1/sessions/{session}"),
            ("GET", "/v1/tasks"),
            ("POST", "/v1/tasks"),
            ("POST", "/v1/sessions"),
            ("GET", "/v1/workflows"),
            ("GET", "/v1/fleet"),
        ):
            assert said(await page.request(method, path, headers=headers)) == (403, "forbidden"), path

    async def test_a_stream_takes_it_in_its_url_and_nothing_else_does(
        self, http: Any, page: Any, fleet: Any, submit: Any
    ) -> None:
        task = await submit()
        await fleet.run(task)
        token = (await token_for(http, f"tasks/{task}", actions=["read", "cancel"]))["token"]
        opened = await page.get(f"/v1/tasks/{task}/events", params={"token": token})
        assert opened.status_code == 200
        assert "task.succeeded" in opened.text
        for method, path in (("GET", ""), ("GET", "/result"), ("POST", "/cancel")):
            refused = await page.request(method, f"/v1/tasks/{task}{path}", params={"token": token})
            assert said(refused) == (401, "unauthenticated")
        # An API key has no place in a URL.
        refused = await page.get(f"/v1/tasks/{task}/events", params={"token": ADMIN.text})
        assert said(refused) == (401, "unauthenticated")
        # What the header says counts.
        refused = await page.get(f"/v1/tasks/{task}/events", params={"token": token}, headers=bearer("tps_x.y"))
        assert said(refused) == (401, "unauthenticated")

    async def test_a_session_s_opens_its_tasks_too(self, http: Any, page: Any, fleet: Any, submit: Any) -> None:
        session, other = await session_of(http), await session_of(http)
        headers = bearer((await token_for(http, f"sessions/{session}", actions=["read", "answer"]))["token"])
        task, alone, of_other = await task_in(http, session), await submit(), await task_in(http, other)
        assert (await page.get(f"/v1/sessions/{session}", headers=headers)).status_code == 200
        assert (await page.get(f"/v1/tasks/{task}", headers=headers)).status_code == 200
        answered = await page.post(f"/v1/tasks/{task}/events", json={"data": 1}, headers=headers)
        assert answered.status_code == 202
        for hidden in (alone, of_other, new_task_id()):
            assert said(await page.get(f"/v1/tasks/{hidden}", headers=headers)) == (404, "task_not_found")
        assert said(await page.get(f"/v1/sessions/{other}", headers=headers)) == (403, "forbidden")
        # What its tasks share among themselves no stream shows.
        assert said(await page.get(f"/v1/sessions/{session}/state", headers=headers)) == (403, "forbidden")
        assert said(await page.post(f"/v1/tasks/{task}/cancel", headers=headers)) == (403, "forbidden")

    async def test_it_cancels_and_answers_where_it_is_for_that(self, http: Any, page: Any, submit: Any) -> None:
        task = await submit()
        headers = bearer((await token_for(http, f"tasks/{task}", actions=["cancel", "answer"]))["token"])
        assert (await page.post(f"/v1/tasks/{task}/events", json={"data": 1}, headers=headers)).status_code == 202
        assert said(await page.get(f"/v1/tasks/{task}", headers=headers)) == (403, "forbidden")
        cancelled = await page.post(f"/v1/tasks/{task}/cancel", headers=headers)
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")

    async def test_what_another_has_signed_is_nobody_s(self, http: Any, page: Any, broker: Broker, submit: Any) -> None:
        task, life = await submit(), int(time.time() * 1000) + 60_000
        record, _ = await broker.api_keys.create(
            NewKey(tenant="other", name="", scopes=frozenset({Scope.ADMIN}), expires_in=None)
        )
        reads = frozenset({Action.READ})
        forged = [
            # A tenant that signs for another one; with the right secret of a wrong key; by nobody.
            StreamToken(new_token_id(record.key_id), "default", record.key_id, _task(task), reads, life),
            StreamToken(new_token_id(ADMIN.key_id), "default", ADMIN.key_id, _task(task), reads, life),
            StreamToken(new_token_id(None), "default", None, _task(task), reads, life),
        ]
        for token in forged:
            refused = await page.get(f"/v1/tasks/{task}", headers=bearer(token.sign(record.signing)))
            assert said(refused) == (401, "unauthenticated")
        for secret in (b"", b"\0" * 32):
            refused = await page.get(f"/v1/tasks/{task}", headers=bearer(forged[2].sign(secret)))
            assert said(refused) == (401, "unauthenticated")
        # Its own tenant's token is good, and sees nothing of the other tenant.
        honest = StreamToken(new_token_id(record.key_id), "other", record.key_id, _task(task), reads, life)
        hidden = await page.get(f"/v1/tasks/{task}", headers=bearer(honest.sign(record.signing)))
        assert said(hidden) == (404, "task_not_found")

    async def test_a_token_in_a_url_shows_nowhere(
        self, http: Any, page: Any, app: FastAPI, submit: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        task = await submit()
        token = (await token_for(http, f"tasks/{task}"))["token"]

        async def explode(*_: object) -> None:
            raise RuntimeError("a surprise")

        with structlog.testing.capture_logs() as logged, caplog.at_level(logging.DEBUG, "tailplane"):
            answers = [
                await page.get(f"/v1/tasks/{task}/events", params={"token": token, "from": "nonsense"}),
                await page.get(f"/v1/tasks/{task}/events", params={"token": token + "x"}),
                await page.get(f"/v1/tasks/{new_task_id()}/events", params={"token": token}),
                await page.get(f"/v1/tasks/{task}", params={"token": token}),
                await page.delete(f"/v1/tokens/{token}", headers=bearer(ADMIN.text)),
                await page.get("/nothing", params={"token": token}),
            ]
            monkeypatch.setattr(app.state.services.hub, "open", explode)
            answers.append(await page.get(f"/v1/tasks/{task}/events", params={"token": token}))
        assert [each.status_code for each in answers] == [422, 401, 403, 401, 422, 404, 500]
        assert any(entry["event"] == "unexpected error" for entry in logged)
        secret = token[-20:]
        assert secret not in repr(logged) + caplog.text
        for each in answers:
            assert secret not in each.text + repr(each.headers)
        assert secret not in repr(app.state.services.counts.requests)


def _task(text: str) -> Any:
    return text


class TestEnding:
    async def test_it_ends_to_the_millisecond(self, http: Any, page: Any, app: FastAPI, submit: Any) -> None:
        task = await submit()
        issued = await token_for(http, f"tasks/{task}")
        watch, headers = Watch.of(app), bearer(issued["token"])
        watch.stop_at(issued["expires_at"] - 0.001)
        assert (await page.get(f"/v1/tasks/{task}", headers=headers)).status_code == 200
        watch.stop_at(issued["expires_at"])
        assert said(await page.get(f"/v1/tasks/{task}", headers=headers)) == (401, "credential_expired")
        opened = await page.get(f"/v1/tasks/{task}/events", params={"token": issued["token"]})
        assert said(opened) == (401, "credential_expired")

    async def test_it_ends_with_its_key(self, page: Any, app: FastAPI, broker: Broker, submit: Any) -> None:
        key, task = await make_key(broker.api_keys, Scope.READ), await submit()
        page.headers.update(bearer(key.text))
        token = (await token_for(page, f"tasks/{task}"))["token"]
        await broker.api_keys.revoke(key.key_id)
        await app.state.services.doorkeeper.look()
        assert said(await page.get(f"/v1/tasks/{task}", headers=bearer(token))) == (401, "unauthenticated")

    async def test_it_outlives_the_rotation_of_its_key(
        self, page: Any, app: FastAPI, broker: Broker, submit: Any
    ) -> None:
        key, task = await make_key(broker.api_keys, Scope.READ), await submit()
        page.headers.update(bearer(key.text))
        token = (await token_for(page, f"tasks/{task}"))["token"]
        await broker.api_keys.rotate(key.key_id, timedelta())
        await app.state.services.doorkeeper.look()
        assert said(await page.get(f"/v1/tasks/{task}")) == (401, "unauthenticated")
        assert (await page.get(f"/v1/tasks/{task}", headers=bearer(token))).status_code == 200

    async def test_one_that_was_revoked_opens_nothing(self, http: Any, page: Any, submit: Any) -> None:
        task = await submit()
        first, second = await token_for(http, f"tasks/{task}"), await token_for(http, f"tasks/{task}")
        for _ in range(2):
            assert (await http.delete(f"/v1/tokens/{first['token_id']}")).status_code == 204
        refused = await page.get(f"/v1/tasks/{task}", headers=bearer(first["token"]))
        assert said(refused) == (401, "unauthenticated")
        assert (await page.get(f"/v1/tasks/{task}", headers=bearer(second["token"]))).status_code == 200

    async def test_its_key_or_an_admin_of_the_tenant_revokes_it(
        self, http: Any, page: Any, app: FastAPI, broker: Broker, submit: Any
    ) -> None:
        task, keys = await submit(), broker.api_keys
        own, other = await make_key(keys, Scope.READ), await make_key(keys, Scope.READ, Scope.SUBMIT, Scope.CANCEL)
        stranger = await make_key(keys, Scope.ADMIN, tenant="stranger")
        page.headers.update(bearer(own.text))
        first, second = await token_for(page, f"tasks/{task}"), await token_for(page, f"tasks/{task}")
        assert key_id_of(first) == own.key_id
        where = f"/v1/tokens/{first['token_id']}"
        assert said(await page.delete(where, headers=bearer(other.text))) == (403, "forbidden")
        assert said(await page.delete(where, headers=bearer(stranger.text))) == (404, "key_not_found")
        assert said(await page.delete(where, headers=bearer(first["token"]))) == (403, "forbidden")
        assert said(await page.delete("/v1/tokens/nonsense")) == (422, "invalid_id")
        for nobody in (new_token_id(None), new_token_id(new_session_id().replace("s_", "k_"))):  # type: ignore[arg-type]
            assert said(await http.delete(f"/v1/tokens/{nobody}")) == (404, "key_not_found")
        assert (await page.get(f"/v1/tasks/{task}", headers=bearer(first["token"]))).status_code == 200
        assert (await page.delete(where)).status_code == 204
        assert (await http.delete(f"/v1/tokens/{second['token_id']}")).status_code == 204
        for token in (first, second):
            refused = await page.get(f"/v1/tasks/{task}", headers=bearer(token["token"]))
            assert said(refused) == (401, "unauthenticated")

    async def test_so_many_of_a_tenant_are_revoked_at_a_time(self, http: Any, app: FastAPI) -> None:
        revocations = app.state.services.doorkeeper.revocations
        for _ in range(MOST_OF_A_TENANT):
            # Whichever keys have issued them.
            revocations._note(Revoked("default", new_token_id(new_key_id())))
        response = await http.delete(f"/v1/tokens/{new_token_id(ADMIN.key_id)}")
        assert said(response) == (503, "unavailable")
        assert "revoke the API key" in response.json()["hint"]


class TestWhereNobodySignsIn:
    @pytest.fixture
    def settings(self, valkey: EmbeddedServer) -> Settings:
        return locked(valkey).model_copy(update={"auth": "none"})

    async def test_an_application_s_code_is_the_same(self, page: Any, fleet: Any) -> None:
        task = (await page.post("/v1/tasks", json={"workflow": "echo"})).json()["task_id"]
        await fleet.run(task)
        issued = await token_for(page, f"tasks/{task}")
        assert SignedToken.parse(issued["token"]).claimed.key_id is None
        opened = await page.get(f"/v1/tasks/{task}/events", params={"token": issued["token"]})
        assert "task.succeeded" in opened.text
        assert (await page.delete(f"/v1/tokens/{issued['token_id']}")).status_code == 204
