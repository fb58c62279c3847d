"""API keys by HTTP: each admin those of its tenant, secrets told once, what ends is noticed; and who the caller is."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from tailplane.broker import Broker
from tailplane.broker.api_keys import NewKey
from tailplane.control_plane import Settings, create_app
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id
from tailplane.protocol.scopes import Scope

from .conftest import client_of

ADMIN = frozenset({Scope.ADMIN})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"auth": "keys"})


@pytest.fixture
async def admin(broker: Broker) -> ApiKey:
    return (await broker.api_keys.create(NewKey(tenant="acme", name="admin", scopes=ADMIN)))[1]


@pytest.fixture
async def http(app: FastAPI, admin: ApiKey) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that signs as an admin of the tenant acme."""
    async with client_of(app) as client:
        client.headers["Authorization"] = f"Bearer {admin.text}"
        yield client


def signed(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def create(http: httpx2.AsyncClient, *scopes: str, **more: Any) -> dict[str, Any]:
    response = await http.post("/v1/keys", json={"name": "app", "scopes": scopes or ("read",), **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def test_a_key_is_told_once_and_opens_what_its_scopes_say(http: httpx2.AsyncClient) -> None:
    response = await http.post("/v1/keys", json={"name": "app", "scopes": ["read"]})
    assert response.status_code == 201
    made = response.json()
    assert response.headers["location"] == f"/v1/keys/{made['key_id']}"
    assert response.headers["cache-control"] == "no-store"
    assert (made["tenant"], made["name"], made["scopes"]) == ("acme", "app", ["read"])
    assert "expires_at" not in made
    assert (await http.get("/v1/tasks", headers=signed(made["key"]))).status_code == 200
    for method, path in (("POST", "/v1/sessions"), ("GET", "/v1/keys"), ("GET", f"/v1/keys/{made['key_id']}")):
        refused = await http.request(method, path, headers=signed(made["key"]))
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path
    looked_at = await http.get(f"/v1/keys/{made['key_id']}")
    assert looked_at.json() == {name: value for name, value in made.items() if name != "key"}
    assert looked_at.headers["cache-control"] == "no-store"


@pytest.mark.usefixtures("fleet")
async def test_to_submit_is_neither_to_cancel_nor_to_read_what_came_of_it(http: httpx2.AsyncClient) -> None:
    made = await create(http, "submit")
    once = signed(made["key"]) | {"Idempotency-Key": "k", "Prefer": "wait=1"}
    session = (await http.post("/v1/sessions", headers=signed(made["key"]))).json()["session_id"]
    submitted = await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"}, headers=once)
    assert (submitted.status_code, "preference-applied" in submitted.headers) == (202, False)

    refused = await http.delete(f"/v1/sessions/{session}?cancel=true", headers=signed(made["key"]))
    assert (refused.status_code, refused.json()["missing"]) == (403, ["cancel"])
    # It was refused before anything was done.
    task = (await http.get(submitted.headers["location"])).json()
    assert task["state"] == "queued"
    assert (await http.get(f"/v1/sessions/{session}")).json()["closed"] is False
    both = await create(http, "submit", "cancel")
    assert (await http.delete(f"/v1/sessions/{session}?cancel=true", headers=signed(both["key"]))).status_code == 200
    assert (await http.get(submitted.headers["location"])).json()["state"] == "cancelled"

    # Nor is the end of it told to who asks again.
    again = await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"}, headers=once)
    assert (again.status_code, again.json()["task_id"]) == (202, task["task_id"])
    told = await create(http, "submit", "read")
    asked = once | signed(told["key"])
    end = await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"}, headers=asked)
    assert (end.status_code, end.json()["state"]) == (200, "cancelled")


async def test_a_key_has_what_it_was_given(http: httpx2.AsyncClient) -> None:
    made = await create(http, "admin", expires_in_ms=3_600_000, submits_per_second=0.5, max_readers=3)
    assert made["expires_at"] == pytest.approx(made["created_at"] + 3600, abs=1)
    assert (made["submits_per_second"], made["max_readers"]) == (0.5, 3)
    said = (await http.get("/v1/whoami", headers=signed(made["key"]))).json()
    assert said == {
        "tenant": "acme",
        "key_id": made["key_id"],
        "name": "app",
        "scopes": ["admin", "cancel", "read", "submit"],
        "expires_at": made["expires_at"],
        "submits_per_second": 0.5,
        "max_readers": 3,
    }


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "app"},
        {"name": "app", "scopes": []},
        {"name": "app", "scopes": ["write"]},
        {"name": "", "scopes": ["read"]},
        {"name": "a\nb", "scopes": ["read"]},
        {"name": "a" * 101, "scopes": ["read"]},
        {"name": "app", "scopes": ["read"], "expires_in_ms": 0},
        {"name": "app", "scopes": ["read"], "submits_per_second": 0},
        {"name": "app", "scopes": ["read"], "submits_per_second": 1e-300},
        {"name": "app", "scopes": ["read"], "max_readers": 0},
        {"name": "app", "scopes": ["read"], "tenant": "other"},
        {"name": "app", "scopes": ["read"], "key": "tp_mine"},
    ],
)
async def test_what_is_no_key_is_refused(http: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    response = await http.post("/v1/keys", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert len((await http.get("/v1/keys")).json()["keys"]) == 1


async def test_keys_are_listed_in_pages_without_secrets(http: httpx2.AsyncClient) -> None:
    made = [await create(http) for _ in range(3)]
    first = await http.get("/v1/keys", params={"limit": 2})
    assert first.headers["cache-control"] == "no-store"
    second = await http.get("/v1/keys", params={"limit": 2, "page": first.json()["next_page"]})
    listed = first.json()["keys"] + second.json()["keys"]
    assert {key["key_id"] for key in listed} >= {key["key_id"] for key in made}
    assert (len(listed), second.json()["next_page"]) == (4, None)
    for key in made:
        assert ApiKey.parse(key["key"]).secret not in first.text + second.text
    assert (await http.get("/v1/keys", params={"page": "x"})).status_code == 422


async def test_another_tenant_s_keys_are_not_there(http: httpx2.AsyncClient, broker: Broker) -> None:
    theirs, key = await broker.api_keys.create(NewKey(tenant="other", name="admin", scopes=ADMIN))
    there, not_there = f"/v1/keys/{theirs.key_id}", f"/v1/keys/{new_key_id()}"
    for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        answers = [await http.request(method, path + tail) for path in (there, not_there)]
        said = [
            (answer.status_code, answer.text.replace(path.rpartition("/")[2], ""))
            for answer, path in zip(answers, (there, not_there), strict=True)
        ]
        assert said[0] == said[1]
        assert answers[0].json()["code"] == "key_not_found"
    assert await broker.api_keys.read(theirs.key_id) == theirs
    listed = (await http.get("/v1/keys", headers=signed(key.text))).json()["keys"]
    assert [each["key_id"] for each in listed] == [theirs.key_id]


async def test_a_rotated_key_goes_on_with_both_secrets(http: httpx2.AsyncClient) -> None:
    made = await create(http)
    response = await http.post(f"/v1/keys/{made['key_id']}/rotate")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    rotated = response.json()
    assert rotated["key"] != made["key"]
    assert rotated["previous_until"] == pytest.approx(time.time() + 24 * 3600, abs=60)
    await refreshed(http)
    for text in (made["key"], rotated["key"]):
        assert (await http.get("/v1/whoami", headers=signed(text))).json()["key_id"] == made["key_id"]
    final = (await http.post(f"/v1/keys/{made['key_id']}/rotate", json={"grace_ms": 0})).json()
    assert "previous_until" not in final
    await refreshed(http)
    statuses = [
        (await http.get("/v1/whoami", headers=signed(each["key"]))).status_code for each in (made, rotated, final)
    ]
    assert statuses == [401, 401, 200]


async def refreshed(http: httpx2.AsyncClient) -> None:
    """Let the control plane look its keys up again, as it does each second."""
    app: Any = http._transport.app  # type: ignore[attr-defined]
    await app.state.services.doorkeeper.look()


@pytest.mark.parametrize("grace", [-1, 7 * 24 * 3600_000 + 1, "1h"])
async def test_a_grace_has_bounds(http: httpx2.AsyncClient, grace: object) -> None:
    made = await create(http)
    response = await http.post(f"/v1/keys/{made['key_id']}/rotate", json={"grace_ms": grace})
    assert response.status_code == 422


async def test_a_revoked_key_is_refused_within_two_seconds(http: httpx2.AsyncClient) -> None:
    took = []
    # The median of five: two may meet a machine that stands still, and what is slow by itself makes more so.
    for _ in range(5):
        made = await create(http)
        assert (await http.get("/v1/whoami", headers=signed(made["key"]))).status_code == 200
        for _ in range(2):
            response = await http.delete(f"/v1/keys/{made['key_id']}")
            assert (response.status_code, response.headers["cache-control"]) == (204, "no-store")
        began = time.monotonic()
        async with asyncio.timeout(30):
            while (refused := await http.get("/v1/whoami", headers=signed(made["key"]))).status_code == 200:
                await asyncio.sleep(0.05)
        took.append(time.monotonic() - began)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert refused.json()["detail"] == "the API key was revoked"
    assert statistics.median(took) < 2, took
    assert "revoked_at" in (await http.get(f"/v1/keys/{made['key_id']}")).json()
    rotated = await http.post(f"/v1/keys/{made['key_id']}/rotate")
    assert (rotated.status_code, rotated.json()["code"]) == (409, "key_ended")


async def test_a_key_ends_by_itself(http: httpx2.AsyncClient) -> None:
    made = await create(http, expires_in_ms=1000)
    async with asyncio.timeout(10):
        while (refused := await http.get("/v1/whoami", headers=signed(made["key"]))).status_code == 200:
            await asyncio.sleep(0.05)
    assert time.time() >= made["expires_at"]
    assert (refused.status_code, refused.json()["code"]) == (401, "credential_expired")


async def test_an_admin_may_revoke_its_own_key_but_not_the_last_one(http: httpx2.AsyncClient, admin: ApiKey) -> None:
    # A key that has ended soon is no less an admin's; one that may only read is none.
    await create(http, "read", "submit", "cancel")
    last = await http.delete(f"/v1/keys/{admin.key_id}")
    assert (last.status_code, last.json()["code"]) == (409, "last_admin")
    assert (await http.get("/v1/whoami")).status_code == 200
    other = await create(http, "admin")
    assert (await http.delete(f"/v1/keys/{admin.key_id}")).status_code == 204
    assert (await http.delete(f"/v1/keys/{other['key_id']}", headers=signed(other["key"]))).status_code == 409


async def test_a_repeated_request_makes_no_second_key_and_says_which_is_the_first(http: httpx2.AsyncClient) -> None:
    body, headers = {"name": "app", "scopes": ["read"]}, {"Idempotency-Key": "once"}
    made = (await http.post("/v1/keys", json=body, headers=headers)).json()
    again = await http.post("/v1/keys", json=body, headers=headers)
    assert (again.status_code, again.json()["code"], again.json()["key_id"]) == (409, "key_made", made["key_id"])
    assert ApiKey.parse(made["key"]).secret not in again.text
    other = await http.post("/v1/keys", json=body | {"name": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert len((await http.get("/v1/keys")).json()["keys"]) == 2


async def test_who_changes_keys_is_logged_and_no_secret(http: httpx2.AsyncClient, admin: ApiKey) -> None:
    with structlog.testing.capture_logs() as logged:
        made = await create(http)
        rotated = (await http.post(f"/v1/keys/{made['key_id']}/rotate", json={"grace_ms": 1000})).json()
        await http.delete(f"/v1/keys/{made['key_id']}")
        # Done before: nothing to tell.
        await http.delete(f"/v1/keys/{made['key_id']}")
    told = [line for line in logged if line["event"].startswith("API key")]
    assert [line["event"] for line in told] == ["API key created", "API key rotated", "API key revoked"]
    for line in told:
        facts = (line["tenant"], line["key_id"], line["name"], line["by"])
        assert facts == ("acme", made["key_id"], "app", admin.key_id)
    for secret in (made["key"], rotated["key"], admin.text):
        assert ApiKey.parse(secret).secret not in str(logged)


async def test_without_a_credential_one_is_asked_for(http: httpx2.AsyncClient) -> None:
    for header in ("", "Basic dXNlcjpwYXNz", "Bearer", "Bearer x", f"Bearer {ApiKey.draw(new_key_id()).text}"):
        for path in ("/v1/whoami", "/v1/tasks", f"/v1/tasks/t_{'0' * 26}"):
            response = await http.get(path, headers={"Authorization": header} if header else {"Authorization": ""})
            assert (response.status_code, response.json()["code"]) == (401, "unauthenticated"), (header, path)
            assert response.headers["www-authenticate"] == 'Bearer realm="tailplane"'
    refused = await http.get("/v1/whoami", params={"token": "tp_x"}, headers={"Authorization": "Basic x"})
    assert refused.status_code == 401


async def test_an_answer_says_nothing_of_a_secret_that_was_wrong(http: httpx2.AsyncClient, admin: ApiKey) -> None:
    wrong = ApiKey.draw(admin.key_id)
    unknown = ApiKey.draw(new_key_id())
    answers = [await http.get("/v1/whoami", headers=signed(key.text)) for key in (wrong, unknown)]
    assert answers[0].text == answers[1].text
    assert wrong.secret not in answers[0].text


async def test_where_nobody_signs_in_the_caller_is_the_default_tenant(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"auth": "none"}))
    async with app.router.lifespan_context(app), client_of(app) as http:
        said = (await http.get("/v1/whoami")).json()
    assert said == {"tenant": "default", "scopes": ["admin", "cancel", "read", "submit"]}
