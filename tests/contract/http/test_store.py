"""What Redis does to the answers: it goes away and comes back, and it forgets what is past its retention."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tailplane.control_plane import Settings, create_app
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.ids import new_session_id, new_task_id


@contextlib.asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(settings)
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://c") as client:
        yield client


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedServer]:
    """A server that the test may take away."""
    with EmbeddedServer() as server:
        yield server


CALLS = [
    ("GET", "/readyz", None),
    ("GET", "/v1/workflows", None),
    ("GET", "/v1/workers", None),
    ("GET", "/v1/fleet", None),
    ("GET", "/v1/tasks", None),
    ("GET", f"/v1/tasks/{new_task_id()}", None),
    ("GET", f"/v1/tasks/{new_task_id()}/result?wait=1", None),
    ("GET", f"/v1/tasks/{new_task_id()}/events", None),
    ("POST", f"/v1/tasks/{new_task_id()}/cancel", None),
    ("POST", "/v1/tasks", {"workflow": "echo"}),
    ("POST", "/v1/workflows/echo/stream", {}),
    ("POST", "/v1/sessions", {}),
    ("POST", f"/v1/sessions/{new_session_id()}/tasks", {"workflow": "echo"}),
    ("GET", f"/v1/sessions/{new_session_id()}", None),
    ("DELETE", f"/v1/sessions/{new_session_id()}?cancel=true", None),
]


async def test_without_redis_every_call_is_503_and_the_process_lives(own_valkey: EmbeddedServer) -> None:
    url = own_valkey.url
    own_valkey.kill()
    async with control_plane(Settings(redis_url=url, auth="none")) as http:
        for method, path, body in CALLS:
            response = await http.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (503, "store_unavailable"), path
            assert int(response.headers["retry-after"]) >= 1
            assert response.headers["content-type"] == "application/problem+json"
        assert (await http.get("/healthz")).status_code == 200


async def test_it_recovers_by_itself_when_redis_comes_back(own_valkey: EmbeddedServer) -> None:
    async with control_plane(Settings(redis_url=own_valkey.url, auth="none")) as http:
        assert (await http.get("/readyz")).status_code == 200
        own_valkey.kill()
        assert (await http.get("/readyz")).status_code == 503
        own_valkey.start()
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.post("/v1/sessions")).status_code == 201


async def test_a_draining_process_is_not_ready(http: Any, app: Any) -> None:
    app.state.drain.set()

    response = await http.get("/readyz")

    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert (await http.get("/healthz")).status_code == 200


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"retention": timedelta(milliseconds=1)})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tasks/{}"),
        ("GET", "/v1/tasks/{}/result?wait=5"),
        ("GET", "/v1/tasks/{}/events"),
        ("POST", "/v1/tasks/{}/cancel"),
    ],
)
async def test_a_task_past_its_retention_is_410_with_the_reason(
    http: Any, fleet: Any, submit: Any, method: str, path: str
) -> None:
    task_id = await submit()
    await fleet.run(task_id)
    async with asyncio.timeout(30):
        while (await http.get(f"/v1/tasks/{task_id}")).status_code == 200:
            pass

    responses = [await http.request(method, path.format(task_id)) for _ in range(2)]
    # Known also after a listing has taken it out of the index.
    await http.get("/v1/tasks")
    responses.append(await http.request(method, path.format(task_id)))

    for response in responses:
        assert (response.status_code, response.json()["code"]) == (410, "task_gone")
        assert response.json()["reason"] == "retention"
        assert "0.001 s" in response.json()["detail"]


async def test_the_same_request_after_the_retention_is_410(http: Any, fleet: Any) -> None:
    key = {"Idempotency-Key": "k"}
    first = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=key)
    await fleet.run(first.json()["task_id"])
    async with asyncio.timeout(30):
        while (await http.get(first.headers["location"])).status_code == 200:
            pass

    again = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=key)

    assert (again.status_code, again.json()["code"]) == (410, "task_gone")
