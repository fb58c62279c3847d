"""The state of a session over HTTP: read, set, and refused where somebody came between."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tailplane.protocol.ids import new_session_id

Put = Callable[..., Awaitable[Any]]


@pytest.fixture
async def url(http: Any) -> str:
    session = (await http.post("/v1/sessions")).json()["session_id"]
    return f"/v1/sessions/{session}/state"


async def test_what_is_set_is_read(http: Any, url: str) -> None:
    made = await http.put(f"{url}/plan", json={"value": {"step": 2}})
    await http.put(f"{url}/user:1", json={"value": None})

    assert (made.status_code, made.json()) == (200, {"key": "plan", "value": {"step": 2}, "version": 1})
    assert made.headers["etag"] == '"1"'
    found = await http.get(f"{url}/plan")
    assert (found.json(), found.headers["etag"]) == (made.json(), '"1"')
    assert (await http.get(url)).json() == {
        "state": {"plan": made.json(), "user:1": {"key": "user:1", "value": None, "version": 1}}
    }


async def test_what_was_never_set_has_version_0(http: Any, url: str) -> None:
    found = await http.get(f"{url}/plan")
    assert (found.status_code, found.json()) == (200, {"key": "plan", "value": None, "version": 0})
    assert found.headers["etag"] == '"0"'
    assert (await http.get(url)).json() == {"state": {}}


@pytest.mark.parametrize("how", [{"json": {"value": 2, "version": 0}}, {"headers": {"If-Match": '"0"'}}])
async def test_another_version_is_412_and_says_which(http: Any, url: str, how: dict[str, Any]) -> None:
    await http.put(f"{url}/k", json={"value": 1})

    refused = await http.put(f"{url}/k", **({"json": {"value": 2}} | how))

    assert refused.status_code == 412
    said = refused.json()
    assert (said["code"], said["key"], said["expected"], said["found"]) == ("state_conflict", "k", 0, 1)
    assert (await http.get(f"{url}/k")).json()["value"] == 1


async def test_the_version_that_is_there_is_taken(http: Any, url: str) -> None:
    first = await http.put(f"{url}/k", json={"value": 1, "version": 0})
    second = await http.put(f"{url}/k", json={"value": 2}, headers={"If-Match": first.headers["etag"]})
    assert second.json()["version"] == 2


async def test_a_repetition_with_its_key_changes_nothing(http: Any, url: str) -> None:
    answers = [
        await http.put(f"{url}/k", json={"value": 1, "version": 0}, headers={"Idempotency-Key": "once"})
        for _ in range(2)
    ]
    assert [answer.json()["version"] for answer in answers] == [1, 1]


@pytest.mark.parametrize(
    ("path", "more", "status", "code"),
    [
        ("/a%20b", {"json": {"value": 1}}, 422, "invalid_request"),
        ("/k", {"json": {"value": 1, "version": -1}}, 422, "invalid_request"),
        ("/k", {"json": {"version": 1}}, 422, "invalid_request"),
        ("/k", {"json": {"value": 1, "version": 1}, "headers": {"If-Match": '"2"'}}, 422, "invalid_request"),
        ("/k", {"json": {"value": 1}, "headers": {"If-Match": "2"}}, 422, "invalid_request"),
        ("/k", {"json": {"value": 1}, "headers": {"Idempotency-Key": ""}}, 422, "invalid_request"),
        ("/k", {"json": {"value": "x" * 70_000}}, 413, "too_large"),
    ],
)
async def test_what_can_t_be_set_is_refused(
    http: Any, url: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    answer = await http.put(f"{url}{path}", **more)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_session_that_never_was_is_404(http: Any) -> None:
    url = f"/v1/sessions/{new_session_id()}/state"
    answers = [await http.get(url), await http.get(f"{url}/k"), await http.put(f"{url}/k", json={"value": 1})]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "session_not_found")}
