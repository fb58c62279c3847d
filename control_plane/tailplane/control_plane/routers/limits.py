"""Limits: what the caller may take, and takes now."""

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, caller_of, needs
from tailplane.control_plane.allotment import Limits, allotment
from tailplane.control_plane.answers import answer
from tailplane.control_plane.documents import also_msgpack, problems
from tailplane.control_plane.services import services_of

router = APIRouter(prefix="/v1/limits", tags=["limits"], route_class=GuardedRoute)


@router.get("", response_model=Limits, responses=also_msgpack(200, "Limits") | problems(503))
@needs()
async def get_limits(request: Request) -> Response:
    """Tell what the caller's tenant, and its API key, may take, and what they take now. Any API key will do."""
    return answer(request, await allotment(services_of(request), caller_of(request)))
