"""Serves the page, and passes its calls on to the control plane: so both have one origin, as behind a proxy of yours.

    python examples/browser/serve.py

Then open http://127.0.0.1:8421. For this machine only: it listens on loopback and asks nobody who they are. Where the
control plane demands an API key, it adds that in TAILPLANE_API_KEY to what it passes on.
"""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

CONTROL_PLANE = os.environ.get("TAILPLANE_URL", "http://127.0.0.1:8420").rstrip("/")
API_KEY = os.environ.get("TAILPLANE_API_KEY", "")
PASSED_ON = ("accept", "content-type", "last-event-id", "idempotency-key")
PASSED_BACK = ("content-type", "cache-control", "location", "retry-after", "x-accel-buffering", "incremental")
EVENT_STREAM = "text/event-stream"


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


async def pass_on(request: Request) -> Response:
    http: httpx2.AsyncClient = request.state.http
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    url = f"{CONTROL_PLANE}{request.scope['raw_path'].decode()}?{request.url.query}"
    call = http.build_request(request.method, url, headers=headers, content=await request.body())
    try:
        answer = await http.send(call, stream=True)
    except httpx2.TransportError:
        if EVENT_STREAM in headers.get("accept", ""):
            # An EventSource gives up on any error status, but comes back after an empty stream.
            return Response("retry: 1000\n\n", headers={"content-type": EVENT_STREAM})
        return PlainTextResponse(f"no control plane at {CONTROL_PLANE}", 502)
    back = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
    return StreamingResponse(pieces(answer), answer.status_code, back)


async def pieces(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx2.TransportError:
        pass  # The page's EventSource connects again by itself, with the last event's id.
    finally:
        await answer.aclose()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
    # No read timeout: a stream may be silent for as long as its workflow is.
    timeout = httpx2.Timeout(5, read=None)
    signed = {"Authorization": f"Bearer {API_KEY}"} if API_KEY else {}
    async with httpx2.AsyncClient(timeout=timeout, headers={"Accept-Encoding": "identity"} | signed) as http:
        yield {"http": http}


app = Starlette(
    routes=[Route("/", page), Route("/v1/{path:path}", pass_on, methods=["GET", "POST", "DELETE"])],
    # Another site's page must not reach this machine under a name of its own.
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    lifespan=lifespan,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the page beside a control plane.")
    parser.add_argument("--port", type=int, default=8421)
    # Streams have no end of their own: Ctrl-C waits a second for them.
    uvicorn.run(app, port=parser.parse_args().port, log_level="warning", timeout_graceful_shutdown=1)
