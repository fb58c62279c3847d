"""Raw HTTP at a control plane that runs as it does in production: a process of its own, API keys, a worker, Redis."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id
from tests.fuzz.measure import Outcome
from tests.fuzz.mutator import Mutator

NAME = "raw HTTP, to a control plane"
WORKFLOWS = Path(__file__).parents[1] / "integration" / "workflows.py"
# Connections at once; seconds until an answer counts as one that never comes, since the request was not complete.
_AT_ONCE = 32
_PATIENCE = 0.25
# Of a control plane, over what it takes when it has just started.
_MOST_BYTES = 200 * 1024 * 1024
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_PLACES = {"task_id": "t_01jd3z0v9m6s8k2x4q7w5e1r0t", "session_id": "s_01jd3z0v9m6s8k2x4q7w5e1r0t"}


def new_key() -> str:
    """Return an API key that nobody has."""
    return ApiKey.draw(new_key_id()).text


def plan(key: str) -> Plan:
    """Return the cluster that is fuzzed."""
    env = {"TAILPLANE_HEAD_TIMEOUT": "2s", "TAILPLANE_BODY_TIMEOUT": "2s", "TAILPLANE_MAX_QUEUED": "1000000"}
    return Plan(target=str(WORKFLOWS), api_key=key, env=env)


class Requests:
    """Makes requests for the routes of a control plane, well-formed ones, which the mutator then changes."""

    def __init__(self, document: dict[str, Any], key: str, mutator: Mutator) -> None:
        self._routes = [(path, method) for path, methods in document["paths"].items() for method in methods]
        self._key = key
        self._mutator = mutator

    def make(self) -> bytes:
        """Return a request."""
        return self._mutator.mutated([self._well_formed])

    def _well_formed(self) -> bytes:
        random, mutator = self._mutator.random, self._mutator
        path, method = random.choice(self._routes)
        target = re.sub(r"\{(\w+)\}", lambda match: _PLACES.get(match[1], "count"), path)
        if random.random() < 0.3:
            target += random.choice(
                ("?from=0", "?limit=3", "?wait=0", "?state=queued&workflow=count", "?token=tps_a.b")
            )
        body, kind = random.choice(((b"", "text/plain"), self._json_body(), (mutator.packed(), "application/msgpack")))
        lines = [
            f"{method.upper()} {target} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {self._key}",
            f"Content-Type: {kind}",
            f"Accept: {random.choice(('application/json', 'application/msgpack', 'text/event-stream', '*/*'))}",
            "Idempotency-Key: a",
            'If-Match: "1"',
            "Last-Event-ID: 3",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ]
        asked = lines[:4] + random.sample(lines[4:], random.randrange(5))
        if random.random() < 0.2:
            chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            return "\r\n".join([*asked, "Transfer-Encoding: chunked", "", ""]).encode() + chunked
        return "\r\n".join([*asked, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def _json_body(self) -> tuple[bytes, str]:
        form = self._mutator.random.choice(
            (
                b'{"workflow": "count", "input": {"n": 1}}',
                b'{"workflow": "count", "input": {"n": 1}, "delay_ms": 100000, "concurrency_key": "k"}',
                b'{"name": "x", "workflow": "count", "input": {"n": 1}, "cron": "0 0 1 1 *"}',
                b'{"type": "Approval", "data": {"a": [1, 2.5, null]}}',
                b'{"metadata": {"a": "b"}}',
                b'{"value": 1, "version": 0}',
                self._mutator.json(),
            )
        )
        return form, "application/json"


def run(inputs: int, seed: int, say: Callable[[str], None]) -> Outcome:
    """Throw so many requests at a control plane."""
    outcome, key, mutator = Outcome(NAME), new_key(), Mutator(seed)
    with LocalCluster(plan(key)) as cluster:
        before = memory(cluster)
        document = httpx2.get(f"{cluster.url}/openapi.json").json()
        made = Requests(document, key, mutator)
        began = time.perf_counter()
        asyncio.run(_throw(cluster.url, [made.make() for _ in range(inputs)], mutator, outcome))
        outcome.seconds = time.perf_counter() - began
        outcome.peak_bytes = memory(cluster) - before
        look(cluster, key, outcome)
    say(f"{NAME}: {outcome.inputs:,} inputs, {outcome.taken:,} taken, {len(outcome.findings)} findings")
    return outcome


async def _throw(url: str, requests: list[bytes], mutator: Mutator, outcome: Outcome) -> None:
    host, port = url.removeprefix("http://").split(":")
    left = iter(requests)

    async def work() -> None:
        for data in left:
            pieces = mutator.pieces(data)
            began = time.perf_counter()
            try:
                status = await _ask(host, int(port), pieces)
            except TimeoutError:
                outcome.note(data, "no connection within 30 s")
                continue
            outcome.inputs += 1
            outcome.slowest = max(outcome.slowest, time.perf_counter() - began)
            outcome.taken += status is not None and status < 400
            if status is not None and status >= 500 and status not in (503, 505):
                outcome.note(data, f"answered {status}")

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())


async def _ask(host: str, port: int, pieces: list[bytes]) -> int | None:
    """Return the status of the answer; None: there was none, as the request was not complete, or none at all."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(host, port)
    try:
        for piece in pieces:
            writer.write(piece)
            with suppress(ConnectionError):
                await writer.drain()
        async with asyncio.timeout(_PATIENCE):
            found = _STATUS.match(await reader.read(64))
            return int(found[1]) if found else None
    except (TimeoutError, ConnectionError):
        return None
    finally:
        writer.transport.abort()


def memory(cluster: LocalCluster) -> int:
    """Return the most memory that the control plane has had, in bytes."""
    status = Path(f"/proc/{cluster.control_planes[0].pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def look(cluster: LocalCluster, key: str, outcome: Outcome) -> None:
    """Note what is wrong with the cluster afterwards."""
    for child in (*cluster.control_planes, *cluster.workers):
        if not child.is_running:
            outcome.note(b"", f"{child.name} has ended")
    signed = {"Authorization": f"Bearer {key}"}
    if httpx2.get(f"{cluster.url}/v1/workers", headers=signed, timeout=30).status_code != 200:
        outcome.note(b"", "the control plane does not answer")
    if outcome.peak_bytes > _MOST_BYTES:
        outcome.note(b"", f"the control plane took {outcome.peak_bytes:,} bytes more than before")
    for log in cluster.log_dir.glob("*"):
        text = log.read_text(errors="replace")
        for line in text.splitlines():
            if "unexpected error" in line or "Traceback" in line or "Exception in" in line:
                outcome.note(line.encode()[:2000], f"in {log.name}")
        if ApiKey.parse(key).secret in text:
            outcome.note(b"", f"the API key is in {log.name}")
