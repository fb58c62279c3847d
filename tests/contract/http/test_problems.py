"""Errors that belong to no route: unknown paths and methods, surprises; and what the OpenAPI document says."""

from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from tailplane.protocol.errors import BY_CODE


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/tasks/", 404), ("PUT", "/v1/tasks", 405), ("DELETE", "/healthz", 405)],
)
async def test_what_the_router_refuses_is_a_problem(http: Any, method: str, path: str, status: int) -> None:
    response = await http.request(method, path)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["code"] in BY_CODE
    assert {"type", "title", "detail"} <= set(problem)


async def test_a_refused_method_is_told_all_that_are_allowed(http: Any) -> None:
    response = await http.patch("/v1/tasks")

    assert response.headers["allow"] == "GET, HEAD, POST"


async def test_a_surprise_is_500_without_its_details(
    http: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode() -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(app.state.services.registry, "all", explode)

    with structlog.testing.capture_logs() as logged:
        response = await http.get("/v1/workflows")

    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert [(entry["event"], entry["path"], entry["exc_info"]) for entry in logged] == [
        ("unexpected error", "/v1/workflows", True)
    ]


async def test_errors_are_problems_in_json_also_for_who_prefers_msgpack(http: Any) -> None:
    response = await http.get("/v1/tasks/x", headers={"Accept": "application/msgpack"})

    assert response.headers["content-type"] == "application/problem+json"


async def test_the_document_describes_every_route_with_its_problems(http: Any) -> None:
    document = (await http.get("/openapi.json")).json()

    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {
        ("post", "/v1/sessions"),
        ("get", "/v1/sessions/{session_id}"),
        ("delete", "/v1/sessions/{session_id}"),
        ("post", "/v1/sessions/{session_id}/tasks"),
        ("get", "/v1/sessions/{session_id}/events"),
        ("get", "/v1/sessions/{session_id}/state"),
        ("get", "/v1/sessions/{session_id}/state/{key}"),
        ("put", "/v1/sessions/{session_id}/state/{key}"),
        ("post", "/v1/tasks"),
        ("get", "/v1/tasks"),
        ("get", "/v1/tasks/{task_id}"),
        ("post", "/v1/tasks/{task_id}/cancel"),
        ("get", "/v1/tasks/{task_id}/result"),
        ("get", "/v1/tasks/{task_id}/events"),
        ("post", "/v1/tasks/{task_id}/events"),
        ("get", "/v1/tasks/{task_id}/steps"),
        ("post", "/v1/tasks/{task_id}/tokens"),
        ("post", "/v1/sessions/{session_id}/tokens"),
        ("delete", "/v1/tokens/{token_id}"),
        ("post", "/v1/workflows/{name}/stream"),
        ("get", "/v1/dead-letters"),
        ("post", "/v1/dead-letters/{task_id}/requeue"),
        ("delete", "/v1/dead-letters/{task_id}"),
        ("get", "/v1/schedules"),
        ("put", "/v1/schedules/{name}"),
        ("get", "/v1/schedules/{name}"),
        ("delete", "/v1/schedules/{name}"),
        ("post", "/v1/schedules/{name}/pause"),
        ("post", "/v1/schedules/{name}/resume"),
        ("post", "/v1/schedules/{name}/trigger"),
        ("get", "/v1/workflows"),
        ("get", "/v1/workers"),
        ("get", "/v1/fleet"),
        ("get", "/v1/limits"),
        ("post", "/v1/keys"),
        ("get", "/v1/keys"),
        ("get", "/v1/keys/{key_id}"),
        ("post", "/v1/keys/{key_id}/rotate"),
        ("delete", "/v1/keys/{key_id}"),
        ("get", "/v1/whoami"),
        ("get", "/healthz"),
        ("get", "/readyz"),
    }
    for (method, path), operation in operations.items():
        assert operation["description"], path
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
        if method == "post" and not path.endswith(("/requeue", "/pause", "/resume", "/trigger")):
            assert set(operation["requestBody"]["content"]) == {"application/json", "application/msgpack"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_the_documentation_is_served(http: Any) -> None:
    assert (await http.get("/docs")).status_code == 200
