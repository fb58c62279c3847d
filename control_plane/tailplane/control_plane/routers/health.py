"""Whether the process lives, and whether it should be sent requests. Touches nobody's data."""

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, open_to_all
from tailplane.control_plane.answers import answer
from tailplane.control_plane.documents import problems
from tailplane.control_plane.forms import Health
from tailplane.control_plane.readiness import check_ready

router = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get("/healthz", response_model=Health)
@open_to_all
async def healthz(request: Request) -> Response:
    """Say that the process lives."""
    return answer(request, {"status": "ok"})


@router.get("/readyz", response_model=Health, responses=problems(503))
@open_to_all
async def readyz(request: Request) -> Response:
    """Say whether this control plane can take requests: Redis answers and is fit, the process is not about to stop."""
    await check_ready(request.app)
    return answer(request, {"status": "ready"})
