"""Workflows, workers, and how the deployment stands."""

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, needs
from tailplane.control_plane.answers import answer
from tailplane.control_plane.documents import also_msgpack, problems
from tailplane.control_plane.fleet_view import fleet_for, workers_for
from tailplane.control_plane.forms import Fleet, WorkerList, WorkflowList, workflow_form
from tailplane.control_plane.parameters import tenant_of
from tailplane.control_plane.services import services_of
from tailplane.protocol.scopes import Scope

router = APIRouter(prefix="/v1", tags=["fleet"], route_class=GuardedRoute)


@router.get("/workflows", response_model=WorkflowList, responses=also_msgpack(200, "WorkflowList") | problems(503))
@needs(Scope.READ)
async def list_workflows(request: Request) -> Response:
    """List the workflows that workers have registered, with the JSON Schemas of their inputs."""
    workflows = await services_of(request).registry.all()
    return answer(request, WorkflowList(workflows=[workflow_form(workflow) for workflow in workflows]))


@router.get("/workers", response_model=WorkerList, responses=also_msgpack(200, "WorkerList") | problems(503))
@needs(Scope.ADMIN)
async def list_workers(request: Request) -> Response:
    """List the workers that hold a lease, and how many tasks they run: of the tenant, or, for `default`, of all."""
    return answer(request, WorkerList(workers=await workers_for(services_of(request), tenant_of(request))))


@router.get("/fleet", response_model=Fleet, responses=also_msgpack(200, "Fleet") | problems(503))
@needs(Scope.ADMIN)
async def get_fleet(request: Request) -> Response:
    """Tell what waits for each workflow, which workers there are, and how many dead letters.

    Of the tenant; for `default`, what waits and runs is that of all.
    """
    return answer(request, await fleet_for(services_of(request), tenant_of(request)))
