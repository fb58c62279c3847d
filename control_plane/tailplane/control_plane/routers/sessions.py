"""Sessions: named groups of tasks."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from tailplane.control_plane.access import GuardedRoute, caller_of, check_scopes, needs
from tailplane.control_plane.answers import answer, told
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, reads, takes
from tailplane.control_plane.forms import Session, Task, session_form
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.models import NewSession, Submit
from tailplane.control_plane.parameters import (
    IDEMPOTENCY_KEY,
    PREFER,
    SESSION_ID,
    body_of,
    idempotency_key_of,
    session_of,
    tenant_of,
)
from tailplane.control_plane.routers.tasks import submit
from tailplane.control_plane.services import services_of
from tailplane.protocol import codec
from tailplane.protocol.scopes import Action, Scope

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=201,
    response_model=Session,
    responses=also_msgpack(201, "Session", "Location") | problems(409, *BODY_PROBLEMS, 429, 503),
    openapi_extra=reads(IDEMPOTENCY_KEY) | takes(NewSession, required=False),
)
@needs(Scope.SUBMIT)
async def create_session(request: Request) -> Response:
    """Open a session."""
    key, body = idempotency_key_of(request), await body_of(request, empty={})
    asked = request_of(key, method="POST", path=request.scope["path"], body=body)
    services, metadata = services_of(request), parse(NewSession, body).metadata
    await services.limiter.check_stored(caller_of(request), asked)
    session = await services.broker.catalogue.create_session(tenant_of(request), metadata, asked)
    services.stored.note(tenant_of(request), len(codec.pack(metadata)))
    headers = {"Location": f"/v1/sessions/{session.session_id}"}
    return answer(request, session_form(session), status=201, headers=headers)


@router.get(
    "/{session_id}",
    response_model=Session,
    responses=also_msgpack(200, "Session") | problems(404, 422, 503),
    openapi_extra=reads(SESSION_ID),
)
@needs(Scope.READ, action=Action.READ)
async def get_session(request: Request) -> Response:
    """Return a session."""
    catalogue = services_of(request).broker.catalogue
    return answer(request, session_form(await catalogue.session(tenant_of(request), session_of(request))))


@router.delete(
    "/{session_id}",
    response_model=Session,
    responses=also_msgpack(200, "Session") | problems(404, 422, 503),
    openapi_extra=reads(SESSION_ID),
)
@needs(Scope.SUBMIT)
async def close_session(
    request: Request, cancel: Annotated[bool, Query(description="Cancel its unfinished tasks, too.")] = False
) -> Response:
    """Close a session: it takes no more tasks. Its tasks go on, unless `cancel` is true: that takes `cancel`, too."""
    if cancel:
        check_scopes(caller_of(request), Scope.CANCEL)
    services, tenant, session = services_of(request), tenant_of(request), session_of(request)
    # Closed first: what comes in after that is refused, so no task escapes the cancelling.
    closed = await services.broker.catalogue.close_session(tenant, session)
    if cancel:
        await services.canceller.cancel_session(tenant, session, "the session was closed")
    return answer(request, told(request, session_form(closed)))


@router.post(
    "/{session_id}/tasks",
    status_code=202,
    response_model=Task,
    responses=also_msgpack(202, "Task", "Location")
    | {200: {"model": Task, "description": "It has ended within the time that the caller preferred to wait."}}
    | problems(404, 409, 410, *BODY_PROBLEMS, 429, 503),
    openapi_extra=reads(SESSION_ID, IDEMPOTENCY_KEY, PREFER) | takes(Submit, required=True),
)
@needs(Scope.SUBMIT)
async def submit_to_session(request: Request) -> Response:
    """Run a workflow as a task of a session."""
    return await submit(request, session_of(request))
