"""Nonsense gets its own clear error each time, and neither worker nor control plane stops."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster
from tests.fuzz import schemathesis_run

NOBODY = "t_00000000000000000000000000"


@dataclass(frozen=True)
class Nonsense:
    """A request that can't be carried out, and what it is answered."""

    method: str
    path: str
    status: int
    code: str
    body: bytes = b""
    kind: str = "application/json"


NONSENSE = {
    "unknown workflow": Nonsense("POST", "/v1/tasks", 404, "unknown_workflow", b'{"workflow": "nobody"}'),
    "misfit input": Nonsense("POST", "/v1/tasks", 422, "invalid_input", b'{"workflow": "count", "input": {"n": "x"}}'),
    "missing field": Nonsense("POST", "/v1/tasks", 422, "invalid_input", b'{"workflow": "count", "input": {}}'),
    "malformed JSON": Nonsense("POST", "/v1/tasks", 422, "invalid_request", b'{"workflow": '),
    "malformed msgpack": Nonsense("POST", "/v1/tasks", 422, "invalid_request", b"\xc1", "application/msgpack"),
    "trailing msgpack": Nonsense("POST", "/v1/tasks", 422, "invalid_request", b"\x80\x80", "application/msgpack"),
    "msgpack bomb": Nonsense(
        "POST", "/v1/tasks", 422, "invalid_request", b"\xdd\xff\xff\xff\xff", "application/msgpack"
    ),
    "deep msgpack": Nonsense("POST", "/v1/tasks", 422, "invalid_request", b"\x91" * 100_000, "application/msgpack"),
    "no object": Nonsense("POST", "/v1/tasks", 422, "invalid_request", b"[1, 2]"),
    "not an id": Nonsense("GET", "/v1/tasks/nonsense", 422, "invalid_id"),
    "nobody's id": Nonsense("GET", f"/v1/tasks/{NOBODY}", 404, "task_not_found"),
    "nobody's events": Nonsense("GET", f"/v1/tasks/{NOBODY}/events", 404, "task_not_found"),
    "nobody's result": Nonsense("GET", f"/v1/tasks/{NOBODY}/result", 404, "task_not_found"),
    "nobody's cancel": Nonsense("POST", f"/v1/tasks/{NOBODY}/cancel", 404, "task_not_found"),
    "nobody's requeue": Nonsense("POST", f"/v1/dead-letters/{NOBODY}/requeue", 404, "task_not_found"),
    "nobody's drop": Nonsense("DELETE", f"/v1/dead-letters/{NOBODY}", 404, "task_not_found"),
    "nobody's token": Nonsense("POST", f"/v1/tasks/{NOBODY}/tokens", 404, "task_not_found"),
    "a token for ever": Nonsense("POST", f"/v1/tasks/{NOBODY}/tokens", 422, "invalid_request", b'{"expires_in": 1e9}'),
    "a drop of what is no id": Nonsense("DELETE", "/v1/dead-letters/nonsense", 422, "invalid_id"),
    "cursor that is no number": Nonsense("GET", f"/v1/tasks/{NOBODY}/events?from=12x", 422, "invalid_cursor"),
    "body over the limit": Nonsense("POST", "/v1/tasks", 413, "too_large", b'"' + b"x" * 2_000_000 + b'"'),
}


@pytest.fixture
def http(cluster: LocalCluster) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=cluster.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("case", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_gets_its_own_error(http: httpx2.Client, case: Nonsense) -> None:
    answer = http.request(case.method, case.path, content=case.body, headers={"Content-Type": case.kind})
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (case.status, case.code), problem
    assert problem["status"] == case.status
    assert problem["detail"]
    assert "Traceback" not in answer.text


async def test_a_cursor_past_the_end_is_told(cluster: LocalCluster, client: Client) -> None:
    task = await client.run_workflow("count", {"n": 1})
    await task.result()
    async with httpx2.AsyncClient(base_url=cluster.url) as http:
        answer = await http.get(f"/v1/tasks/{task.task_id}/events?from=5000")
        assert (answer.status_code, answer.json()["code"], answer.json()["last_seq"]) == (416, "cursor_past_end", 4)
        answer = await http.get(f"/v1/tasks/{task.task_id}/events", headers={"Last-Event-ID": "4"})
        assert answer.status_code == 204


async def test_both_programs_go_on_after_nonsense(cluster: LocalCluster, client: Client) -> None:
    before = [child.pid for child in (*cluster.control_planes, *cluster.workers)]
    for workflow in ("write_nonsense", "return_nonsense", "write_huge", "leave"):
        task = await client.run_workflow(workflow)
        assert [event.type async for event in task.events()][-1] == "task.failed"
    assert await (await client.run_workflow("count", {"n": 3})).result(timeout=20) == 3
    assert [child.pid for child in (*cluster.control_planes, *cluster.workers)] == before
    assert all(child.is_running for child in (*cluster.control_planes, *cluster.workers))


async def test_schemathesis_finds_no_server_error_and_no_open_door() -> None:
    key = schemathesis_run.new_key()
    with LocalCluster(schemathesis_run.plan(key)) as guarded:
        done = await asyncio.to_thread(
            subprocess.run,
            schemathesis_run.command(guarded.url, key, examples=25, seed=1),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            cwd=Path(__file__).parent,
            env=schemathesis_run.environment(key),
        )
        # Else most of it was refused at the door.
        async with Client(guarded.url, api_key=key) as client:
            assert (await client.whoami()).scopes
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "38 passed" in done.stdout
