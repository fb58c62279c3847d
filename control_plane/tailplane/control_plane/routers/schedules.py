"""Schedules: put, list, look at, pause, resume, trigger, delete."""

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, caller_of, needs
from tailplane.control_plane.answers import answer, told
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, reads, takes
from tailplane.control_plane.forms import Task, task_form
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.limiter import Allowance
from tailplane.control_plane.parameters import (
    IDEMPOTENCY_KEY,
    SCHEDULE_NAME,
    AfterName,
    Limit,
    body_of,
    idempotency_key_of,
    schedule_of,
    tenant_of,
)
from tailplane.control_plane.schedule_models import NewSchedule, Schedule, SchedulePage, schedule_form
from tailplane.control_plane.services import services_of
from tailplane.control_plane.tracing import trace_of
from tailplane.protocol.scopes import Scope

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], route_class=GuardedRoute)


@router.put(
    "/{name}",
    response_model=Schedule,
    responses=also_msgpack(200, "Schedule")
    | {201: {"model": Schedule, "description": "There was none of that name."}}
    | problems(404, *BODY_PROBLEMS, 429, 503),
    openapi_extra=reads(SCHEDULE_NAME) | takes(NewSchedule, required=True),
)
@needs(Scope.SUBMIT)
async def put_schedule(request: Request) -> Response:
    """Create a schedule, or replace the one of that name. What says the same changes nothing."""
    name = schedule_of(request)
    services, wanted = services_of(request), parse(NewSchedule, await body_of(request, empty={}))
    await services.limiter.check_stored(caller_of(request))
    spec = wanted.spec()
    schedule, is_new = await services.schedules.put(tenant_of(request), name, spec)
    services.stored.note(tenant_of(request), len(spec.input))
    return answer(request, schedule_form(schedule), status=201 if is_new else 200)


@router.get("", response_model=SchedulePage, responses=also_msgpack(200, "SchedulePage") | problems(422, 503))
@needs(Scope.READ)
async def get_schedules(request: Request, limit: Limit = 50, page: AfterName = None) -> Response:
    """List schedules by name, without their inputs."""
    found, following = await services_of(request).schedules.page(tenant_of(request), limit=limit, after=page)
    listed = [schedule_form(schedule, with_input=False) for schedule in found]
    return answer(request, SchedulePage(schedules=listed, next_page=following))


@router.get(
    "/{name}",
    response_model=Schedule,
    responses=also_msgpack(200, "Schedule") | problems(404, 422, 503),
    openapi_extra=reads(SCHEDULE_NAME),
)
@needs(Scope.READ)
async def get_schedule(request: Request) -> Response:
    """Return a schedule: what it runs, when next, and what it fired last."""
    found = await services_of(request).schedules.find(tenant_of(request), schedule_of(request))
    return answer(request, schedule_form(found))


@router.delete(
    "/{name}",
    status_code=204,
    response_class=Response,
    responses=problems(404, 422, 503),
    openapi_extra=reads(SCHEDULE_NAME),
)
@needs(Scope.SUBMIT)
async def delete_schedule(request: Request) -> Response:
    """Remove a schedule. The tasks that it has fired go on."""
    await services_of(request).schedules.delete(tenant_of(request), schedule_of(request))
    return Response(status_code=204)


@router.post(
    "/{name}/pause",
    response_model=Schedule,
    responses=also_msgpack(200, "Schedule") | problems(404, 422, 503),
    openapi_extra=reads(SCHEDULE_NAME),
)
@needs(Scope.SUBMIT)
async def pause_schedule(request: Request) -> Response:
    """Let a schedule fire nothing until it is resumed: due times of meanwhile are neither fired nor missed."""
    paused = await services_of(request).schedules.pause(tenant_of(request), schedule_of(request))
    return answer(request, told(request, schedule_form(paused)))


@router.post(
    "/{name}/resume",
    response_model=Schedule,
    responses=also_msgpack(200, "Schedule") | problems(404, 422, 503),
    openapi_extra=reads(SCHEDULE_NAME),
)
@needs(Scope.SUBMIT)
async def resume_schedule(request: Request) -> Response:
    """Let a paused schedule go on, with its first due time from now on."""
    resumed = await services_of(request).schedules.resume(tenant_of(request), schedule_of(request))
    return answer(request, told(request, schedule_form(resumed)))


@router.post(
    "/{name}/trigger",
    status_code=201,
    response_model=Task,
    responses=also_msgpack(201, "Task", "Location") | problems(404, 409, 410, 422, 429, 503),
    openapi_extra=reads(SCHEDULE_NAME, IDEMPOTENCY_KEY),
)
@needs(Scope.SUBMIT)
async def trigger_schedule(request: Request) -> Response:
    """Run now, once, what a schedule runs; its due times stay as they are."""
    key, name = idempotency_key_of(request), schedule_of(request)
    asked = request_of(key, method="POST", path=request.scope["path"], body={})
    schedules = services_of(request).schedules
    allowance = Allowance(caller_of(request))
    task = await schedules.trigger(allowance, name, trace_of(request.headers), asked)
    headers = {"Location": f"/v1/tasks/{task.task_id}", **allowance.headers}
    return answer(request, told(request, task_form(task)), status=201, headers=headers)
