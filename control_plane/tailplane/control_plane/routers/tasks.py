"""Tasks: submit, list, look at, cancel, wait for."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from tailplane.control_plane.answers import answer
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, takes
from tailplane.control_plane.forms import Task, TaskPage, outcome_form, task_form
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.listing import Filter, list_tasks
from tailplane.control_plane.lookup import find_task, telling_gone
from tailplane.control_plane.models import WORKFLOW_PATTERN, Cancel, Submit
from tailplane.control_plane.parameters import (
    SESSION_ID_SCHEMA,
    TASK_ID_SCHEMA,
    BodyOf,
    IdempotencyKey,
    TaskOf,
    Tenant,
)
from tailplane.control_plane.services import ServicesOf
from tailplane.control_plane.submit import Submission
from tailplane.control_plane.trace import trace_of
from tailplane.control_plane.waiting import wait_for_outcome
from tailplane.protocol.ids import parse_session_id, parse_task_id
from tailplane.protocol.states import State

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])


@router.post(
    "",
    status_code=202,
    response_model=Task,
    responses=also_msgpack(202, "Task", "Location") | problems(404, 409, 410, *BODY_PROBLEMS, 503),
    openapi_extra=dict(takes(Submit, required=True)),
)
async def submit_task(
    request: Request, services: ServicesOf, tenant: Tenant, body: BodyOf, key: IdempotencyKey = None
) -> Response:
    """Run a workflow."""
    submit = parse(Submit, body)
    asked = request_of(key, method="POST", path=request.url.path, body=body)
    wanted = Submission(submit.workflow, submit.input, submit.metadata, None, trace_of(request.headers), asked)
    task = await services.submitter.submit(tenant, wanted)
    return answer(request, task_form(task), status=202, headers={"Location": f"/v1/tasks/{task.task_id}"})


@router.get("", response_model=TaskPage, responses=also_msgpack(200, "TaskPage") | problems(422, 503))
async def get_tasks(
    request: Request,
    services: ServicesOf,
    tenant: Tenant,
    state: Annotated[State | SkipJsonSchema[None], Query(description="Only tasks in this state.")] = None,
    workflow: Annotated[
        str | SkipJsonSchema[None],
        Query(
            pattern=WORKFLOW_PATTERN,
            description="Only tasks of this workflow.",
            json_schema_extra={"pattern": WORKFLOW_PATTERN},
        ),
    ] = None,
    session_id: Annotated[
        str | SkipJsonSchema[None],
        Query(description="Only tasks of this session.", json_schema_extra=SESSION_ID_SCHEMA),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at the most.")] = 50,
    page: Annotated[
        str | SkipJsonSchema[None],
        Query(description="The previous page's `next_page`.", json_schema_extra=TASK_ID_SCHEMA),
    ] = None,
) -> Response:
    """List tasks, newest first. With a filter a page may be short, even empty, and not the last: see `next_page`."""
    wanted = Filter(state, workflow, None if session_id is None else parse_session_id(session_id))
    before = None if page is None else parse_task_id(page)
    found = await list_tasks(services.broker, tenant, wanted, limit=limit, before=before)
    return answer(request, TaskPage(tasks=[task_form(task) for task in found.tasks], next_page=found.next))


@router.get("/{task_id}", response_model=Task, responses=also_msgpack(200, "Task") | problems(404, 410, 422, 503))
async def get_task(request: Request, services: ServicesOf, task: TaskOf) -> Response:
    """Return a task."""
    return answer(request, outcome_form(await find_task(services.broker, task)))


@router.post(
    "/{task_id}/cancel",
    response_model=Task,
    responses=also_msgpack(200, "Task") | problems(404, 410, *BODY_PROBLEMS, 503),
    openapi_extra=dict(takes(Cancel, required=False)),
)
async def cancel_task(request: Request, services: ServicesOf, task: TaskOf, body: BodyOf) -> Response:
    """Cancel a task, and return it in its terminal state: another one than `cancelled` if it ended before."""
    async with telling_gone(services.broker, task):
        record = await services.canceller.cancel(task, parse(Cancel, body).reason)
    return answer(request, task_form(record))


@router.get(
    "/{task_id}/result",
    response_model=Task,
    responses=also_msgpack(200, "Task")
    | {202: {"model": Task, "description": "It has not ended yet."}}
    | problems(404, 410, 422, 503),
)
async def get_result(
    request: Request,
    services: ServicesOf,
    task: TaskOf,
    wait: Annotated[float, Query(ge=0, le=60, description="How long to wait for its end, in seconds.")] = 0,
) -> Response:
    """Return a task once it has ended, with its result or error; 202 if it has not ended after `wait` seconds."""
    async with telling_gone(services.broker, task):
        record = await wait_for_outcome(services, task, wait)
    return answer(request, outcome_form(record), status=200 if record.state.is_terminal else 202)
