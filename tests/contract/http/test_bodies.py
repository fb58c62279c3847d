"""Bodies that can't be taken: each has its own clear answer, and the control plane goes on."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from tailplane.control_plane import Settings
from tailplane.protocol import codec

JSON = "application/json"
MSGPACK = "application/msgpack"
POSTS = ["/v1/tasks", "/v1/sessions", "/v1/workflows/echo/stream"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b"{"),
        (JSON, b"\xff\xfe"),
        (JSON, b'{"workflow": "echo"} more'),
        (JSON, b"NaN"),
        (JSON, b'"\\ud800"'),
        (JSON, b"[" * 100_000),
        (MSGPACK, b"\xc1"),
        (MSGPACK, b"\x92\x01"),
        (MSGPACK, b"\x01\x02"),
        (MSGPACK, b"\xc7\x01\x05\x00"),
        (MSGPACK, b"\xa2\xff\xfe"),
        (MSGPACK, b"\x81\x80\x01"),
        (MSGPACK, b"\x91" * 100_000),
    ],
)
async def test_a_malformed_body_is_422(http: Any, fleet: Any, path: str, kind: str, body: bytes) -> None:
    response = await http.post(path, content=body, headers={"Content-Type": kind})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "nonsense"])
async def test_another_content_type_is_415(http: Any, fleet: Any, path: str, kind: str) -> None:
    response = await http.post(path, content=b'{"workflow": "echo"}', headers={"Content-Type": kind})

    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"
    assert "curl" in response.json()["detail"]


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_that_announces_too_much_is_413(http: Any, settings: Settings, path: str) -> None:
    body = json.dumps({"workflow": "echo", "input": "x" * settings.max_body_bytes}).encode()

    response = await http.post(path, content=body, headers={"Content-Type": JSON})

    assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_a_chunked_body_is_cut_off_at_the_limit(http: Any, settings: Settings) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * settings.max_body_bytes:
            sent += 65536
            yield b" " * 65536

    response = await http.post("/v1/tasks", content=endless(), headers={"Content-Type": JSON})

    assert (response.status_code, response.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "workflow"]),
        (None, ["body"]),
        ([], ["body"]),
        ("echo", ["body"]),
        ({"workflow": 7}, ["body", "workflow"]),
        ({"workflow": ""}, ["body", "workflow"]),
        ({"workflow": "no spaces"}, ["body", "workflow"]),
        ({"workflow": "echo", "inputs": 1}, ["body", "inputs"]),
        ({"workflow": "echo", "metadata": None}, ["body", "metadata"]),
        ({"workflow": "echo", "metadata": {"n": 1}}, ["body", "metadata", "n"]),
        ({"workflow": "echo", "metadata": {"k": "v" * 513}}, ["body", "metadata", "k"]),
        ({"workflow": "echo", "metadata": {"k" * 65: "v"}}, ["body", "metadata", "k" * 65, "[key]"]),
        ({"workflow": "echo", "metadata": {str(n): "v" for n in range(33)}}, ["body", "metadata"]),
    ],
)
async def test_a_body_of_the_wrong_shape_says_where(http: Any, fleet: Any, body: Any, loc: list[str]) -> None:
    response = await http.post("/v1/tasks", content=json.dumps(body), headers={"Content-Type": JSON})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert [error["loc"] for error in response.json()["errors"]] == [loc]


async def test_metadata_up_to_the_limits_is_taken(http: Any, fleet: Any) -> None:
    metadata = {f"{n:064}": "v" * 512 for n in range(32)}

    response = await http.post("/v1/tasks", json={"workflow": "echo", "metadata": metadata})

    assert response.json()["metadata"] == metadata


async def test_map_keys_that_are_no_text_are_refused_where_text_is_due(http: Any, fleet: Any) -> None:
    body = codec.pack({"workflow": "echo", "metadata": {1: "v"}})

    response = await http.post("/v1/tasks", content=body, headers={"Content-Type": MSGPACK})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("depth", [300, 600, 900])
@pytest.mark.parametrize("workflow", ["echo", "count"])
@pytest.mark.parametrize("kind", [JSON, MSGPACK])
async def test_a_deep_input_is_taken_or_refused(http: Any, fleet: Any, depth: int, workflow: str, kind: str) -> None:
    if kind == JSON:
        body = b'{"workflow":"%s","input":%s%s}' % (workflow.encode(), b"[" * depth, b"]" * depth)
    else:
        head = msgpack.packb({"workflow": workflow, "input": 0})
        body = head[:-1] + b"\x91" * depth + b"\x01"

    response = await http.post("/v1/tasks", content=body, headers={"Content-Type": kind})

    assert response.status_code in (202, 422), response.text


async def test_an_integer_beyond_64_bits_in_json_is_taken_as_json_takes_it(http: Any, fleet: Any) -> None:
    response = await http.post(
        "/v1/tasks",
        content=b'{"workflow": "echo", "input": 123456789012345678901234567890}',
        headers={"Content-Type": JSON},
    )

    assert response.status_code in (202, 422)


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/tasks/{}/cancel"])
async def test_no_body_is_not_the_same_as_null(http: Any, submit: Any, path: str) -> None:
    url = path.format(await submit())

    assert (await http.post(url, content=b"null", headers={"Content-Type": JSON})).status_code == 422
    assert (await http.post(url)).status_code in (200, 201)
