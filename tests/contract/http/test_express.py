"""The express lane: the same answers as the whole way, which all its routes can go, too."""

from typing import Any

import pytest
import structlog
from fastapi import FastAPI

from tailplane.control_plane import routers
from tailplane.control_plane.express import ExpressApp

TASK = "t_01jd3z0v9m6s8k2x4q7w5e1r0t"
SESSION = "s_01jd3z0v9m6s8k2x4q7w5e1r0t"
REQUESTS = [
    ("POST", "/v1/tasks", {"json": {"workflow": "echo"}}),
    ("POST", "/v1/tasks", {"json": {"workflow": "nobody"}}),
    ("POST", "/v1/tasks", {"json": {"workflow": "echo"}, "headers": {"Idempotency-Key": ""}}),
    ("POST", "/v1/tasks", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/tasks", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
    ("POST", f"/v1/sessions/{SESSION}/tasks", {"json": {"workflow": "echo"}}),
    ("GET", f"/v1/tasks/{TASK}", {}),
    ("GET", "/v1/tasks/x", {}),
    ("GET", f"/v1/tasks/{TASK}/result", {}),
    ("GET", f"/v1/tasks/{TASK}/result?wait=61", {}),
    ("GET", f"/v1/tasks/{TASK}/events", {}),
    ("GET", f"/v1/tasks/{TASK}/events?from=x", {}),
    ("GET", f"/v1/tasks/{TASK}/events", {"headers": {"Accept": "image/png"}}),
    ("GET", f"/v1/sessions/{SESSION}/events", {}),
    ("GET", f"/v1/sessions/{SESSION}/events?from=7", {}),
    ("POST", "/v1/workflows/nobody/stream", {}),
]


@pytest.mark.parametrize(("method", "path", "more"), REQUESTS)
async def test_both_ways_give_the_same_answer(
    http: Any, fleet: Any, monkeypatch: pytest.MonkeyPatch, method: str, path: str, more: Any
) -> None:
    short = await http.request(method, path, **more)
    monkeypatch.setattr(ExpressApp, "_find", lambda *_: None)
    long = await http.request(method, path, **more)

    assert (short.status_code, short.headers.keys()) == (long.status_code, long.headers.keys())
    assert short.headers["content-type"] == long.headers["content-type"]
    # What differs from one task to the next.
    own = {"task_id": 0, "created_at": 0, "position": 0}
    assert short.json() | own == long.json() | own


async def test_each_busy_route_has_its_lane(app: Any) -> None:
    found = [
        app._find({"method": method, "path": path.partition("?")[0], "root_path": ""}) for method, path, _ in REQUESTS
    ]

    assert {lane.endpoint for lane in found} == set(routers.BUSY)


@pytest.mark.parametrize(
    ("method", "path", "root"),
    [
        ("GET", "/v1/tasks", ""),
        ("DELETE", f"/v1/tasks/{TASK}", ""),
        ("GET", f"/v1/tasks/{TASK}/", ""),
        ("GET", f"/v1/tasks/{TASK}/result/", ""),
        ("GET", f"/prefix/v1/tasks/{TASK}", "/prefix"),
    ],
)
async def test_everything_else_goes_the_whole_way(app: Any, method: str, path: str, root: str) -> None:
    assert app._find({"method": method, "path": path, "root_path": root}) is None


async def test_a_surprise_is_500_without_its_details(http: Any, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    async def explode(*_: Any) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("tailplane.control_plane.routers.tasks.find_task", explode)

    with structlog.testing.capture_logs() as logged:
        response = await http.get(f"/v1/tasks/{TASK}")

    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert [(entry["event"], entry["path"], str(entry["exc_info"])) for entry in logged] == [
        ("unexpected error", f"/v1/tasks/{TASK}", "secret inside")
    ]
