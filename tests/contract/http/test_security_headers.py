"""Every answer bears the headers that tell browsers to take it for nothing but data."""

import asyncio
from typing import Any

import httpx2
import pytest

from tailplane.control_plane import Settings
from tailplane.control_plane.security_headers import HEADERS

from .test_server import Running

TASK = "t_01jd3z0v9m6s8k2x4q7w5e1r0t"


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/healthz", {}, 200),
        ("GET", "/openapi.json", {}, 200),
        ("GET", "/v1/tasks", {}, 200),
        ("GET", f"/v1/tasks/{TASK}", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("PATCH", "/v1/tasks", {}, 405),
        ("POST", "/v1/tasks", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422),
        ("POST", "/v1/tasks", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/v1/tasks", {"json": {"workflow": "echo"}}, 202),
        ("GET", "/v1/tasks?limit=x", {}, 422),
        ("HEAD", "/healthz", {}, 200),
    ],
)
async def test_an_answer_bears_them_once(
    http: Any, fleet: Any, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = await http.request(method, path, **more)

    assert answer.status_code == status
    assert {name: answer.headers.get_list(name) for name in HEADERS} == {
        name: [value] for name, value in HEADERS.items()
    }
    assert "server" not in answer.headers


async def test_a_surprise_bears_them(http: Any, fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def explode(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("tailplane.control_plane.routers.tasks.find_task", explode)

    answer = await http.get(f"/v1/tasks/{TASK}")

    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_streams_bear_them(settings: Settings) -> None:
    running = Running(settings.model_copy(update={"port": 0}))
    async with httpx2.AsyncClient(base_url=await running.url(), timeout=30) as http:
        await running.register()
        for path, body in (("/v1/workflows/echo/stream", 1), ("/v1/sessions", {})):
            async with http.stream("POST", path, json=body) as answer:
                assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
                if path == "/v1/sessions":
                    await answer.aread()
                    session = answer.json()["session_id"]
        async with http.stream("GET", f"/v1/sessions/{session}/events") as answer:
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
            assert answer.headers["content-type"].startswith("text/event-stream")
        running.server.should_exit = True
    await asyncio.wait_for(running.serving, 30)


async def test_the_page_for_people_may_run_its_scripts_and_nothing_else(http: Any) -> None:
    page = await http.get("/docs")

    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    for source in ("https://cdn.jsdelivr.net", "https://fastapi.tiangolo.com"):
        assert (source in page.text) == (source in policy)
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_an_api_key_that_is_sent_as_an_id_is_not_repeated(http: Any) -> None:
    key = "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_" + "S" * 43

    answer = await http.get(f"/v1/tasks/{key}")

    assert answer.status_code == 422
    assert "SSSS" not in answer.text
    assert "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_***" in answer.text
