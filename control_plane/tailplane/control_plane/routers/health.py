"""Whether the process lives, and whether it should be sent requests. Touches nobody's data."""

import asyncio

from fastapi import APIRouter, Request, Response

from tailplane.broker import store_errors
from tailplane.control_plane.answers import answer
from tailplane.control_plane.documents import problems
from tailplane.control_plane.forms import Health
from tailplane.control_plane.services import services_of
from tailplane.protocol.errors import Unavailable

# Seconds. Probes give up after a second or two by themselves.
PING_DEADLINE = 1.0

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Health)
async def healthz(request: Request) -> Response:
    """Say that the process lives."""
    return answer(request, {"status": "ok"})


@router.get("/readyz", response_model=Health, responses=problems(503))
async def readyz(request: Request) -> Response:
    """Say whether this control plane can take requests: Redis answers and is fit, the process is not about to stop."""
    if (refusal := request.app.state.refusal) is not None:
        raise Unavailable(refusal.detail, hint=refusal.hint)
    if services_of(request).drain.is_set():
        raise Unavailable("this control plane is about to stop")
    with store_errors():
        async with asyncio.timeout(PING_DEADLINE):
            await services_of(request).broker.redis.ping()
    return answer(request, {"status": "ready"})
