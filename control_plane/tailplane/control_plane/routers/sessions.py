"""Sessions: named groups of tasks."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from tailplane.control_plane.answers import answer
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, takes
from tailplane.control_plane.forms import Session, Task, session_form, task_form
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.models import NewSession, Submit
from tailplane.control_plane.parameters import BodyOf, IdempotencyKey, SessionOf, Tenant
from tailplane.control_plane.services import ServicesOf
from tailplane.control_plane.submit import Submission
from tailplane.control_plane.trace import trace_of

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


@router.post(
    "",
    status_code=201,
    response_model=Session,
    responses=also_msgpack(201, "Session", "Location") | problems(409, *BODY_PROBLEMS, 503),
    openapi_extra=dict(takes(NewSession, required=False)),
)
async def create_session(
    request: Request, services: ServicesOf, tenant: Tenant, body: BodyOf, key: IdempotencyKey = None
) -> Response:
    """Open a session."""
    asked = request_of(key, method="POST", path=request.url.path, body=body)
    session = await services.broker.catalogue.create_session(tenant, parse(NewSession, body).metadata, asked)
    headers = {"Location": f"/v1/sessions/{session.session_id}"}
    return answer(request, session_form(session), status=201, headers=headers)


@router.get("/{session_id}", response_model=Session, responses=also_msgpack(200, "Session") | problems(404, 422, 503))
async def get_session(request: Request, services: ServicesOf, tenant: Tenant, session: SessionOf) -> Response:
    """Return a session."""
    return answer(request, session_form(await services.broker.catalogue.session(tenant, session)))


@router.delete(
    "/{session_id}", response_model=Session, responses=also_msgpack(200, "Session") | problems(404, 422, 503)
)
async def close_session(
    request: Request,
    services: ServicesOf,
    tenant: Tenant,
    session: SessionOf,
    cancel: Annotated[bool, Query(description="Cancel its unfinished tasks, too.")] = False,
) -> Response:
    """Close a session: it takes no more tasks. Its tasks go on, unless `cancel` is true."""
    # Closed first: what comes in after that is refused, so no task escapes the cancelling.
    closed = await services.broker.catalogue.close_session(tenant, session)
    if cancel:
        await services.canceller.cancel_session(tenant, session, "the session was closed")
    return answer(request, session_form(closed))


@router.post(
    "/{session_id}/tasks",
    status_code=202,
    response_model=Task,
    responses=also_msgpack(202, "Task", "Location") | problems(404, 409, 410, *BODY_PROBLEMS, 503),
    openapi_extra=dict(takes(Submit, required=True)),
)
async def submit_to_session(
    request: Request,
    services: ServicesOf,
    tenant: Tenant,
    session: SessionOf,
    body: BodyOf,
    key: IdempotencyKey = None,
) -> Response:
    """Run a workflow as a task of a session."""
    submit = parse(Submit, body)
    asked = request_of(key, method="POST", path=request.url.path, body=body)
    wanted = Submission(submit.workflow, submit.input, submit.metadata, session, trace_of(request.headers), asked)
    task = await services.submitter.submit(tenant, wanted)
    return answer(request, task_form(task), status=202, headers={"Location": f"/v1/tasks/{task.task_id}"})
