"""A bare ASGI application that streams events of 200 bytes as Server-Sent Events, from memory.

`/?count=..&rate=..&delay=..&chunk=..`: paced events bear their time; those that are sent as fast as it goes are encoded
before, `chunk` of them in one piece.
"""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qsl

_PADDING = "x" * 150


def event(i: int) -> bytes:
    return f'id: {i}\ndata: {{"i":{i},"t":{time.monotonic()},"pad":"{_PADDING}"}}\n\n'.encode()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    asked = {name: float(value) for name, value in parse_qsl(scope["query_string"].decode())}
    count, rate, chunk = int(asked.get("count", 1)), asked.get("rate", 0.0), int(asked.get("chunk", 1))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b": connected\n\n", "more_body": True})
    await asyncio.sleep(asked.get("delay", 0.0))
    if rate:
        for i in range(count):
            await send({"type": "http.response.body", "body": event(i), "more_body": True})
            await asyncio.sleep(1 / rate)
    else:
        piece = event(0) * chunk
        for _ in range(count // chunk):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": event(0) * (count % chunk), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
