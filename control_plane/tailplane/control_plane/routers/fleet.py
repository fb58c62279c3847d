"""Workflows, workers, and how the deployment stands."""

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, needs
from tailplane.control_plane.answers import answer
from tailplane.control_plane.documents import also_msgpack, problems
from tailplane.control_plane.forms import Fleet, WorkerList, WorkflowList, fleet_form, worker_form, workflow_form
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
    """List the workers that hold a lease, and what they are busy with."""
    workers = await services_of(request).broker.queue.workers()
    return answer(request, WorkerList(workers=[worker_form(worker) for worker in workers]))


@router.get("/fleet", response_model=Fleet, responses=also_msgpack(200, "Fleet") | problems(503))
@needs(Scope.ADMIN)
async def get_fleet(request: Request) -> Response:
    """Tell what waits for each workflow, which workers there are, and how many dead letters."""
    return answer(request, fleet_form(await services_of(request).survey.standing(), tenant_of(request)))
