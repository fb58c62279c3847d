"""Pages of allowed origins read every answer, also those that say no; others none. Nobody else notices."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tailplane.control_plane import Settings, create_app
from tailplane.deploy.embedded import EmbeddedServer

from .conftest import client_of
from .doors import locked, token_for

PAGE, OTHER = "https://app.example", "https://evil.example"
ALLOWED = "access-control-allow-origin"


@pytest.fixture
def settings(valkey: EmbeddedServer) -> Settings:
    return locked(valkey, cors_origins=f"{PAGE}, http://localhost:5173")


def preflight(method: str, headers: str, origin: str = PAGE) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/v1/tasks", "POST", "authorization,content-type,idempotency-key,prefer"),
        ("/v1/tasks/t_01jd3z0v9m6s8k2x4q7w5e1r0t/events", "GET", "authorization,last-event-id"),
        ("/v1/tasks/t_01jd3z0v9m6s8k2x4q7w5e1r0t", "HEAD", "authorization"),
        ("/v1/sessions/x/state/y", "PUT", "authorization,if-match"),
        ("/v1/tokens/x", "DELETE", "authorization"),
        ("/nothing", "GET", "authorization"),
    ],
)
async def test_a_preflight_needs_no_credential(http: Any, path: str, method: str, headers: str) -> None:
    response = await http.options(path, headers=preflight(method, headers))
    assert response.status_code == 200
    assert response.headers[ALLOWED] == PAGE
    assert method in response.headers["access-control-allow-methods"]
    allowed = response.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in headers.split(","))
    assert response.headers["access-control-max-age"] == "7200"
    assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight_of_another_page_or_method_is_refused(http: Any) -> None:
    stranger = await http.options("/v1/tasks", headers=preflight("POST", "authorization", OTHER))
    patch = await http.options("/v1/tasks", headers=preflight("PATCH", "authorization"))
    cookie = await http.options("/v1/tasks", headers=preflight("POST", "x-mine"))
    assert [each.status_code for each in (stranger, patch, cookie)] == [400, 400, 400]
    assert ALLOWED not in stranger.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        # The express lane, the framework's way, its 404 and 405, and a stream that is refused.
        ("GET", "/v1/tasks/t_01jd3z0v9m6s8k2x4q7w5e1r0t", 401),
        ("GET", "/v1/workflows", 401),
        ("GET", "/nothing", 404),
        ("PUT", "/v1/tasks", 405),
        ("GET", "/v1/tasks/t_01jd3z0v9m6s8k2x4q7w5e1r0t/events?token=tps_x.y", 401),
        ("GET", "/healthz", 200),
    ],
)
async def test_a_page_may_read_what_it_is_answered(http: Any, method: str, path: str, status: int) -> None:
    response = await http.request(method, path, headers={"Origin": PAGE})
    assert response.status_code == status
    assert response.headers[ALLOWED] == PAGE
    assert "Origin" in response.headers["vary"]
    shown = response.headers["access-control-expose-headers"]
    assert all(name in shown for name in ("Retry-After", "RateLimit", "Location", "ETag", "Tailplane-Task-Id"))
    for headers in ({"Origin": OTHER}, {"Origin": "null"}, {}):
        response = await http.request(method, path, headers=headers)
        assert response.status_code == status
        assert ALLOWED not in response.headers


class TestStreams:
    @pytest.fixture
    def settings(self, valkey: EmbeddedServer) -> Settings:
        return locked(valkey, cors_origins=PAGE).model_copy(update={"auth": "none"})

    async def test_a_page_may_read_a_stream(self, http: Any, fleet: Any, submit: Any) -> None:
        task = await submit()
        await fleet.run(task)
        token = (await token_for(http, f"tasks/{task}"))["token"]
        response = await http.get(f"/v1/tasks/{task}/events", params={"token": token}, headers={"Origin": PAGE})
        assert response.headers[ALLOWED] == PAGE
        assert response.headers["content-type"] == "text/event-stream"
        assert "task.succeeded" in response.text


class TestOnThisMachine:
    """Without keys, where nobody but this machine's programs come in."""

    @pytest.fixture
    async def page(self, valkey: EmbeddedServer) -> AsyncIterator[httpx2.AsyncClient]:
        settings = locked(valkey, cors_origins=PAGE).model_copy(update={"auth": None, "admin_key": None})
        app: FastAPI = create_app(settings)
        async with app.router.lifespan_context(app), client_of(app) as client:
            client.base_url = httpx2.URL("http://localhost:8420")
            yield client

    async def test_a_page_that_is_named_comes_in_and_no_other(self, page: Any) -> None:
        answers = [await page.get("/v1/workflows", headers={"Origin": each}) for each in (PAGE, OTHER)]
        assert [each.status_code for each in answers] == [200, 403]
        assert [each.headers.get(ALLOWED) for each in answers] == [PAGE, None]


async def test_where_no_page_is_allowed_nothing_is_said(valkey: EmbeddedServer) -> None:
    app = create_app(locked(valkey))
    async with app.router.lifespan_context(app), client_of(app) as client:
        response = await client.get("/healthz", headers={"Origin": PAGE})
        asked = await client.options("/v1/tasks", headers=preflight("POST", "authorization"))
    assert (response.status_code, asked.status_code) == (200, 405)
    for each in (response, asked):
        assert not [name for name in each.headers if name.startswith("access-control")]
