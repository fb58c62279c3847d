"""One request to the application, without a client or a server between: it shows what is read of a body, and when."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI

# Seconds: on a machine with much else to do.
_PATIENCE = 60.0


@dataclass(slots=True)
class Answer:
    """What came back; of a stream its beginning.

    Attributes:
        pieces_read: how many pieces of the request's body were asked for before the answer began.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces_read: int = 0

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: FastAPI,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json_body: Any = None,
    pieces: Iterator[bytes] | None = None,
) -> Answer:
    """Send a request; hang up once a stream has begun.

    Args:
        pieces: the body, piece by piece, instead of `json_body`.
    """
    answer, over = Answer(), asyncio.Event()
    parts = urlsplit(url)
    sent = {"host": "control-plane"} | {name.lower(): value for name, value in (headers or {}).items()}
    if json_body is not None:
        sent["content-type"] = "application/json"
    left = pieces or iter([b"" if json_body is None else json.dumps(json_body).encode()])

    async def receive() -> dict[str, Any]:
        if not answer.status:
            answer.pieces_read += 1
        piece = next(left, None)
        if piece is not None:
            return {"type": "http.request", "body": piece, "more_body": pieces is not None}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            if answer.is_stream:
                over.set()
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8420),
    }
    # The express lane looks who asks by the task that serves it.
    async with asyncio.timeout(_PATIENCE):
        await asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
    over.set()
    return answer
