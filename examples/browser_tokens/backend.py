"""An application's backend: it has the API key, knows its users, and gives their pages tokens for their own tasks.

    python examples/browser_tokens/backend.py

Then open http://127.0.0.1:8422. The page reads its stream from the control plane itself, which has to allow the page's
origin: see workflow.py. TAILPLANE_URL and TAILPLANE_API_KEY say where that is, and with which key the backend asks.
"""

import argparse
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tailplane.client import Client, TailplaneError
from tailplane.client.options import control_plane_url

HERE = Path(__file__).parent
# Seconds. Short: a page that reads on gets another one.
LIFE = float(os.environ.get("TOKEN_LIFE", "600"))
# Task and visitor. In the place of your login and your database.
OWNERS: dict[str, str] = {}


async def page(request: Request) -> Response:
    return FileResponse(HERE / "index.html")


async def script(request: Request) -> Response:
    return FileResponse(HERE / "tail.js", media_type="text/javascript")


async def start(request: Request) -> Response:
    task = await client_of(request).run_workflow("launch", await request.json())
    # Whose task it is only the application knows.
    visitor = request.cookies.get("visitor") or secrets.token_urlsafe()
    OWNERS[task.task_id] = visitor
    answer = JSONResponse({"task_id": task.task_id, "control_plane": control_plane_url(None)}, 201)
    answer.set_cookie("visitor", visitor, httponly=True, samesite="strict")
    return answer


async def token(request: Request) -> Response:
    task_id = request.path_params["task_id"]
    if OWNERS.get(task_id, "") != request.cookies.get("visitor"):
        return JSONResponse({"detail": "that is no task of yours"}, 404)
    issued = await client_of(request).task(task_id).stream_token(actions=["read", "answer", "cancel"], expires_in=LIFE)
    return JSONResponse({"token": issued.token, "expires_at": issued.expires_at}, 201, {"Cache-Control": "no-store"})


async def refused(request: Request, error: Exception) -> Response:
    # The page shows it. What your users may read of it is yours to say.
    return JSONResponse({"detail": str(error)}, 502)


def client_of(request: Request) -> Client:
    client: Client = request.state.client
    return client


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Client]]:
    async with Client() as client:
        yield {"client": client}


app = Starlette(
    routes=[
        Route("/", page),
        Route("/tail.js", script),
        Route("/launches", start, methods=["POST"]),
        Route("/launches/{task_id}/token", token, methods=["POST"]),
    ],
    middleware=[
        Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
    ],
    exception_handlers={TailplaneError: refused},
    lifespan=lifespan,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the page, and the tokens that it reads with.")
    parser.add_argument("--port", type=int, default=8422)
    uvicorn.run(app, port=parser.parse_args().port, log_level="warning", timeout_graceful_shutdown=1)
