"""API keys in the client: what is told once is got even where its answer was lost, and no key is shown anywhere."""

import logging
import pickle
from datetime import timedelta
from typing import Any

import pytest

from tailplane.client import (
    Client,
    ClientOptions,
    ConnectionLost,
    Forbidden,
    KeyMade,
    NewApiKey,
    Scope,
    Unauthenticated,
)
from tailplane.client.options import credential
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id

pytestmark = pytest.mark.anyio

KEY = ApiKey.draw(new_key_id())
INFO = {"key_id": KEY.key_id, "tenant": "acme", "name": "app", "scopes": ["read"], "created_at": 1.0}


async def test_a_key_is_created(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(INFO | {"key": KEY.text}, 201))
    made = await client.create_key("app", {Scope.READ, "cancel"}, expires_in=90, submits_per_second=0.5)
    assert (made.key, made.tenant, made.expires_at) == (KEY.text, "acme", None)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/keys")
    assert request.body == {
        "name": "app", "scopes": ["cancel", "read"], "expires_in_ms": 90_000, "submits_per_second": 0.5
    }  # fmt: skip
    assert request.headers["idempotency-key"]


async def test_a_key_whose_answer_was_lost_gets_a_secret_that_is_told(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.refuses(503, "store_unavailable", {"Retry-After": "0"}),
        wire.refuses(409, "key_made", key_id=KEY.key_id),
        wire.answers(INFO | {"key": KEY.text}),
    )
    assert (await client.create_key("app", ["read"])).key == KEY.text
    first, second, third = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    # Nobody has had the secret before: it ends at once.
    assert (third.path, third.body) == (f"/v1/keys/{KEY.key_id}/rotate", {"grace_ms": 0})


async def test_keys_are_listed_rotated_and_revoked(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.answers({"keys": [INFO], "next_page": "p2"}),
        wire.answers({"keys": [INFO | {"revoked_at": 2.0}], "next_page": None}),
        wire.answers(INFO),
        wire.answers(INFO | {"key": KEY.text, "previous_until": 5.0}),
        wire.answers(None),
        wire.answers({"tenant": "acme", "scopes": ["read"], "key_id": KEY.key_id, "new field": 1}),
    )
    assert [each.revoked_at async for each in client.keys()] == [None, 2.0]  # noqa: SIM118 (a method, not a dict's)
    assert (await client.key(KEY.key_id)).scopes == ["read"]
    assert (await client.rotate_key(KEY.key_id)).previous_until == 5.0
    await client.revoke_key(KEY.key_id)
    assert (await client.whoami()).key_id == KEY.key_id
    asked = [(request.method, request.path) for request in server.requests[2:]]
    one = f"/v1/keys/{KEY.key_id}"
    assert asked == [("GET", one), ("POST", f"{one}/rotate"), ("DELETE", one), ("GET", "/v1/whoami")]
    assert server.requests[3].body == {"grace_ms": 24 * 3600_000}


async def test_a_key_signs_and_is_shown_nowhere(
    server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TAILPLANE_API_KEY", f" {KEY.text}\n")
    server.play(
        wire.refuses(503, "store_unavailable", {"Retry-After": "0"}),
        wire.refuses(401, "unauthenticated"),
        wire.refuses(403, "forbidden", missing=["read"]),
    )
    async with Client(server.url) as client:
        with pytest.raises(Unauthenticated) as unauthenticated:
            await client.workflows()
        with pytest.raises(Forbidden) as forbidden:
            await client.workflows()
        shown = [client, client._link, client._link.transport, client._link.transport._opened]
        shown += [unauthenticated.value, forbidden.value, unauthenticated.value.problem(), forbidden.value.facts]
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY.text}"}
    assert forbidden.value.facts == {"missing": ["read"]}
    for each in shown:
        assert KEY.secret not in f"{each!r} {each}"
    assert KEY.secret not in caplog.text


async def test_who_is_not_reached_is_told_without_the_key(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await server.stop()
    async with Client(server.url, api_key=KEY.text, options=ClientOptions(retry_for=timedelta(seconds=0.2))) as client:
        with pytest.raises(ConnectionLost) as caught:
            await client.workflows()
    chain: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(f"{error!r}{error}{vars(error)}")
        error = error.__cause__ or error.__context__
    assert KEY.secret not in "".join(chain) + caplog.text


@pytest.mark.parametrize("text", ["tp_a\nb", "tp_a b", "tp_\u00e9", "x" * 1001])
def test_what_can_not_be_sent_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        Client("http://127.0.0.1:1", api_key=text)
    assert text not in str(caught.value)


def test_an_own_credential_goes_first_and_an_empty_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert credential(None) == {}
    monkeypatch.setenv("TAILPLANE_API_KEY", KEY.text)
    assert credential(None) == {"authorization": f"Bearer {KEY.text}"}
    assert credential("") == {}
    assert credential("tp_mine") == {"authorization": "Bearer tp_mine"}
    client = Client("http://127.0.0.1:1", headers={"Authorization": "Bearer other"})
    assert client._link.transport._headers == {"authorization": "Bearer other"}


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("http://tailplane.example", True),
        ("http://user:pw@10.0.0.1:8420", True),
        ("https://tailplane.example", False),
        ("http://127.0.0.1:8420", False),
        ("http://[::1]:8420", False),
        ("http://localhost:8420", False),
    ],
)
def test_a_key_that_goes_in_plain_text_is_warned_of(
    url: str, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    Client(url)
    assert caplog.records == []
    for api_key in (KEY.text, lambda: KEY.text):
        caplog.clear()
        Client(url, api_key=api_key)
        assert [record.levelname for record in caplog.records] == ["WARNING"] * is_warned
        assert "pw" not in caplog.text
        assert KEY.secret not in caplog.text


def test_a_new_key_shows_its_secret_to_who_asks_for_it_only() -> None:
    made = NewApiKey.model_validate(INFO | {"key": KEY.text})
    assert KEY.secret not in f"{made!r} {made}"
    assert made.model_dump()["key"] == made.key == pickle.loads(pickle.dumps(made)).key
    assert KeyMade("x", key_id="k_1").facts == {"key_id": "k_1"}
