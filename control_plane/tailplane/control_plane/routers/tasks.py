"""Tasks: submit, list, look at, cancel, wait for."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from tailplane.broker import TaskRecord
from tailplane.control_plane.access import GuardedRoute, caller_of, let_in_still, needs
from tailplane.control_plane.answers import answer, told
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, reads, takes
from tailplane.control_plane.forms import Task, TaskPage, outcome_form, task_form
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.limiter import Allowance
from tailplane.control_plane.listing import Filter, list_tasks
from tailplane.control_plane.lookup import find_task, why_missing
from tailplane.control_plane.models import Cancel, Submit
from tailplane.control_plane.parameters import (
    IDEMPOTENCY_KEY,
    PREFER,
    SESSION_ID_SCHEMA,
    TASK_ID,
    WAIT,
    Limit,
    OfSchedule,
    OfWorkflow,
    PageAfter,
    body_of,
    idempotency_key_of,
    preferred_wait_of,
    task_of,
    tenant_of,
    wait_of,
)
from tailplane.control_plane.services import services_of
from tailplane.control_plane.submit import Submission
from tailplane.control_plane.tracing import trace_of
from tailplane.control_plane.waiting import submit_and_wait, wait_for_outcome
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.ids import SessionId, parse_session_id, parse_task_id
from tailplane.protocol.scopes import Action, Scope
from tailplane.protocol.states import State

router = APIRouter(prefix="/v1/tasks", tags=["tasks"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=202,
    response_model=Task,
    responses=also_msgpack(202, "Task", "Location")
    | {200: {"model": Task, "description": "It has ended within the time that the caller preferred to wait."}}
    | problems(404, 409, 410, *BODY_PROBLEMS, 429, 503),
    openapi_extra=reads(IDEMPOTENCY_KEY, PREFER) | takes(Submit, required=True),
)
@needs(Scope.SUBMIT)
async def submit_task(request: Request) -> Response:
    """Run a workflow, at once or later."""
    return await submit(request, None)


async def submit(request: Request, session: SessionId | None) -> Response:
    """Take a task, of a session or of none, and answer with it: at once, or when it has ended if that is preferred."""
    services, tenant = services_of(request), tenant_of(request)
    key, seconds = idempotency_key_of(request), preferred_wait_of(request)
    body = await body_of(request, empty={})
    wanted = parse(Submit, body)
    asked = request_of(key, method="POST", path=request.scope["path"], body=body)
    allowance = Allowance(caller_of(request))
    submission = Submission(
        wanted.workflow,
        wanted.input,
        wanted.metadata,
        session,
        trace_of(request.headers),
        asked,
        priority=wanted.priority,
        concurrency_key=wanted.concurrency_key,
        concurrency_limit=wanted.concurrency_limit,
        allowance=allowance,
    )
    if wanted.is_put_off:
        submission = submission._replace(delay=wanted.delay_from(await services.clock.now_ms()))
    if not seconds or not allowance.caller.may_read:
        # What came of it is told to who may read. A preference that is not met is no error (RFC 7240).
        task = await services.submitter.submit(tenant, submission)
        return answer(request, task_form(task), status=202, headers=_headers(task, allowance))
    task = await submit_and_wait(services, tenant, submission, seconds)
    await let_in_still(request)
    headers = {**_headers(task, allowance), "Preference-Applied": f"wait={seconds}"}
    return answer(request, outcome_form(task), status=_outcome_status(task), headers=headers)


def _headers(task: TaskRecord, allowance: Allowance) -> dict[str, str]:
    return {"Location": f"/v1/tasks/{task.task_id}", **allowance.headers}


@router.get("", response_model=TaskPage, responses=also_msgpack(200, "TaskPage") | problems(422, 503))
@needs(Scope.READ)
async def get_tasks(
    request: Request,
    state: Annotated[State | SkipJsonSchema[None], Query(description="Only tasks in this state.")] = None,
    workflow: OfWorkflow = None,
    session_id: Annotated[
        str | SkipJsonSchema[None],
        Query(description="Only tasks of this session.", json_schema_extra=SESSION_ID_SCHEMA),
    ] = None,
    schedule: OfSchedule = None,
    limit: Limit = 50,
    page: PageAfter = None,
) -> Response:
    """List tasks, newest first. With a filter a page may be short, even empty, and not the last: see `next_page`."""
    session = None if session_id is None else parse_session_id(session_id)
    wanted = Filter(state, workflow, session, schedule)
    before = None if page is None else parse_task_id(page)
    found = await list_tasks(services_of(request).broker, tenant_of(request), wanted, limit=limit, before=before)
    return answer(request, TaskPage(tasks=[task_form(task) for task in found.tasks], next_page=found.next))


@router.get(
    "/{task_id}",
    response_model=Task,
    responses=also_msgpack(200, "Task") | problems(404, 410, 422, 503),
    openapi_extra=reads(TASK_ID),
)
@needs(Scope.READ, action=Action.READ)
async def get_task(request: Request) -> Response:
    """Return a task."""
    return answer(request, outcome_form(await find_task(services_of(request).broker, task_of(request))))


@router.post(
    "/{task_id}/cancel",
    response_model=Task,
    responses=also_msgpack(200, "Task") | problems(404, 410, *BODY_PROBLEMS, 503),
    openapi_extra=reads(TASK_ID) | takes(Cancel, required=False),
)
@needs(Scope.CANCEL, action=Action.CANCEL)
async def cancel_task(request: Request) -> Response:
    """Cancel a task, and return it in its terminal state: another one than `cancelled` if it ended before."""
    services, task = services_of(request), task_of(request)
    reason = parse(Cancel, await body_of(request, empty={})).reason
    try:
        record = await services.canceller.cancel(task, reason)
    except TaskNotFound as error:
        raise await why_missing(services.broker, task, error) from None
    return answer(request, told(request, task_form(record)))


@router.get(
    "/{task_id}/result",
    response_model=Task,
    responses=also_msgpack(200, "Task")
    | {202: {"model": Task, "description": "It has not ended yet."}}
    | problems(404, 410, 422, 503),
    openapi_extra=reads(TASK_ID, WAIT),
)
@needs(Scope.READ, action=Action.READ)
async def get_result(request: Request) -> Response:
    """Return a task once it has ended, with its result or error; 202 if it has not ended after `wait` seconds."""
    services, task, seconds = services_of(request), task_of(request), wait_of(request)
    try:
        record = await wait_for_outcome(services, task, seconds)
    except TaskNotFound as error:
        raise await why_missing(services.broker, task, error) from None
    if seconds:
        await let_in_still(request)
    return answer(request, outcome_form(record), status=_outcome_status(record))


def _outcome_status(task: TaskRecord) -> int:
    return 200 if task.state.is_terminal else 202
