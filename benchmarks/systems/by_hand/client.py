"""The service's client: httpx2, one GET per stream, read line by line; connects again with Last-Event-ID."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from benchmarks.http_clients import HttpClients
from benchmarks.system import Client, Emit, RawStream

_RETRY_S = 0.1


class ByHandClient(Client):
    """Submits and follows tasks."""

    async def open(self, address: dict[str, Any]) -> None:
        import httpx2

        self._lost = httpx2.TransportError
        self._where = urlsplit(address["url"])
        url, limits = address["url"], httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        # A stream is silent for up to 15 s.
        timeout = httpx2.Timeout(30, read=60)
        # Without the contexts of TLS that each client would make, and never use.
        self._http = HttpClients(lambda: httpx2.AsyncClient(base_url=url, limits=limits, timeout=timeout, verify=False))

    async def close(self) -> None:
        await self._http.close()

    async def submit(self, emit: Emit) -> str:
        return await self._submit("emit", asdict(emit))

    async def events(self, task: str, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
        async for name, data in self._follow(task):
            if name == "end":
                return
            if data["i"] >= after:
                yield [data]

    async def run(self, value: Any) -> Any:
        # The stream's last event has the result: the job's own would be polled for, each half second.
        task = await self._submit("echo", {"value": value})
        async for name, data in self._follow(task):
            if name == "end":
                return data
        raise AssertionError("a stream ends with its end event")

    def streams(self, task: str) -> dict[str, RawStream]:
        host, port = self._where.hostname or "", self._where.port or 80
        request = f"GET /tasks/{task}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        return {"SSE": RawStream(host, port, request)}

    async def _submit(self, function: str, arguments: dict[str, Any]) -> str:
        with self._http.one() as http:
            answer = await http.post("/tasks", json={"function": function, "arguments": arguments})
        answer.raise_for_status()
        return str(answer.json()["task_id"])

    async def _follow(self, task: str) -> AsyncIterator[tuple[str, Any]]:
        last_id = "0"
        while True:
            try:
                headers = {"Last-Event-ID": last_id}
                with self._http.one() as http:
                    async with http.stream("GET", f"/tasks/{task}/events", headers=headers) as answer:
                        answer.raise_for_status()
                        name = ""
                        async for line in answer.aiter_lines():
                            if line.startswith("id: "):
                                last_id = line[4:]
                            elif line.startswith("event: "):
                                name = line[7:]
                            elif line.startswith("data: "):
                                yield name, json.loads(line[6:])
                                if name == "end":
                                    return
                                name = ""
            except self._lost:
                pass
            await asyncio.sleep(_RETRY_S)
