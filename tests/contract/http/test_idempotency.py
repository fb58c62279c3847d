"""The same key with the same request makes one thing; with another request it is a conflict."""

import asyncio
from typing import Any

import pytest

from tailplane.broker import Broker
from tailplane.protocol import codec

KEY = {"Idempotency-Key": "order 66"}


async def test_the_same_request_makes_one_task(http: Any, broker: Broker, fleet: Any) -> None:
    body = {"workflow": "echo", "input": {"a": 1, "b": 2}}

    first = await http.post("/v1/tasks", json=body, headers=KEY)
    again = await http.post("/v1/tasks", json=body, headers=KEY)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert len((await http.get("/v1/tasks")).json()["tasks"]) == 1
    claims = await broker.queue.claim(fleet.worker_id, 10, {"echo": 10})
    assert len(claims.taken) == 1
    (kept,) = [key async for key in broker.redis.scan_iter(f"{broker.keys.prefix}:*:request:*")]
    assert 0 < 24 * 3600 - await broker.redis.ttl(kept) + 1 < 60


async def test_requests_at_the_same_time_make_one_task(http: Any, broker: Broker, fleet: Any) -> None:
    requests = [http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY) for _ in range(20)]

    ids = {response.json()["task_id"] for response in await asyncio.gather(*requests)}

    assert len(ids) == 1
    # What the others had recorded is gone: one record, one stream.
    assert len([key async for key in broker.redis.scan_iter(f"{broker.keys.prefix}:default:*")]) == 2


async def test_order_spaces_and_format_do_not_make_another_request(http: Any, fleet: Any) -> None:
    one = await http.post("/v1/tasks", content=b'{"workflow":"echo","input":{"a":1,"b":2}}', headers=KEY)
    two = await http.post("/v1/tasks", content=b'{"input": {"b": 2, "a": 1}, "workflow": "echo"}', headers=KEY)
    packed = codec.pack({"workflow": "echo", "input": {"a": 1, "b": 2}})
    three = await http.post("/v1/tasks", content=packed, headers=KEY | {"Content-Type": "application/msgpack"})

    assert one.json()["task_id"] == two.json()["task_id"] == three.json()["task_id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tasks", {"workflow": "echo", "input": 2}),
        ("/v1/tasks", {"workflow": "count", "input": {"n": 1}}),
        ("/v1/tasks", {"workflow": "echo", "input": 1, "metadata": {"a": "b"}}),
        ("/v1/sessions", {}),
        ("/v1/workflows/echo/stream", 1),
    ],
)
async def test_another_request_with_the_key_is_409(http: Any, broker: Broker, fleet: Any, path: str, body: Any) -> None:
    await http.post("/v1/tasks", json={"workflow": "echo", "input": 1}, headers=KEY)

    response = await http.post(path, json=body, headers=KEY)

    assert (response.status_code, response.json()["code"]) == (409, "idempotency_conflict")
    assert len([key async for key in broker.redis.scan_iter(f"{broker.keys.prefix}:default:*")]) == 2


async def test_a_task_that_moved_on_still_stands_for_its_request(http: Any, fleet: Any) -> None:
    first = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY)
    await fleet.run(first.json()["task_id"])

    again = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=KEY)

    assert (again.status_code, again.json()["task_id"]) == (202, first.json()["task_id"])
    assert again.json()["state"] == "succeeded"


async def test_the_same_key_makes_one_session(http: Any) -> None:
    first = await http.post("/v1/sessions", json={"metadata": {"a": "b"}}, headers=KEY)
    again = await http.post("/v1/sessions", json={"metadata": {"a": "b"}}, headers=KEY)
    other = await http.post("/v1/sessions", json={"metadata": {"a": "c"}}, headers=KEY)

    assert (first.status_code, first.json()) == (201, again.json())
    assert other.status_code == 409


async def test_a_refused_request_does_not_use_up_its_key(http: Any, fleet: Any) -> None:
    refused = await http.post("/v1/tasks", json={"workflow": "count", "input": {}}, headers=KEY)
    mended = await http.post("/v1/tasks", json={"workflow": "count", "input": {"n": 1}}, headers=KEY)

    assert (refused.status_code, mended.status_code) == (422, 202)


@pytest.mark.parametrize("key", ["", "k" * 201, b"caf\xe9", "tab\tin"])
async def test_a_malformed_key_is_422(http: Any, fleet: Any, key: Any) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "echo"}, headers={"Idempotency-Key": key})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]


async def test_a_key_of_200_characters_is_taken(http: Any, fleet: Any) -> None:
    response = await http.post("/v1/tasks", json={"workflow": "echo"}, headers={"Idempotency-Key": "~" * 200})

    assert response.status_code == 202
