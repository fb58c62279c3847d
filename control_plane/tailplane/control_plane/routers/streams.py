"""Streams: what a task says, while it says it (PROTOCOL.md 3)."""

from typing import Any

from fastapi import APIRouter, Request, Response

from tailplane.broker import TaskRef
from tailplane.control_plane.access import GuardedRoute, caller_of, needs
from tailplane.control_plane.documents import BODY_PROBLEMS, problems, reads, takes
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.limiter import Allowance
from tailplane.control_plane.lookup import why_missing
from tailplane.control_plane.parameters import (
    FROM,
    IDEMPOTENCY_KEY,
    LAST_EVENT_ID,
    SESSION_FROM,
    SESSION_ID,
    TASK_ID,
    WORKFLOW_NAME,
    body_of,
    idempotency_key_of,
    position_of,
    session_position_of,
    session_ref_of,
    task_of,
    tenant_of,
)
from tailplane.control_plane.services import services_of
from tailplane.control_plane.streaming import format_of
from tailplane.control_plane.submit import Submission
from tailplane.control_plane.tracing import trace_of
from tailplane.protocol.cursor import START, After
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.frames import MSGPACK_TYPE
from tailplane.protocol.scopes import Action, Scope
from tailplane.protocol.text_frames import NDJSON_TYPE, SSE_TYPE

router = APIRouter(prefix="/v1", tags=["streams"], route_class=GuardedRoute)

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events in order, from the asked position to the terminal one; then the response ends. "
        "A response that ends without it means: connect again, with the cursor.",
        "content": {
            SSE_TYPE: {"schema": {"type": "string"}},
            NDJSON_TYPE: {"schema": {"type": "string"}},
            MSGPACK_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            "Tailplane-Task-Id": {"schema": {"type": "string"}},
            "Tailplane-Keep-Alive-Ms": {"schema": {"type": "integer"}},
        },
    }
}

_SESSION_STREAM: dict[int | str, dict[str, Any]] = {
    200: _STREAM[200]
    | {
        "description": "Events of the session's tasks, in order within each; ends when the session is closed and all "
        "its tasks have been shown to their ends. A response that ends before that means: connect again, with the "
        "cursor.",
        "headers": {
            "Tailplane-Session-Id": {"schema": {"type": "string"}},
            "Tailplane-Keep-Alive-Ms": {"schema": {"type": "integer"}},
        },
    }
}


@router.get(
    "/tasks/{task_id}/events",
    response_class=Response,
    responses=_STREAM
    | {204: {"description": "The cursor is at the end of an ended task: there is nothing more."}}
    | problems(404, 406, 410, 416, 422, 429, 503),
    openapi_extra=reads(TASK_ID, FROM, LAST_EVENT_ID),
)
@needs(Scope.READ, action=Action.READ, by_query=True)
async def get_events(request: Request) -> Response:
    """Stream the events of a task: SSE, NDJSON or msgpack frames by `Accept`."""
    services, task = services_of(request), task_of(request)

    async def find() -> TaskRef:
        return task

    try:
        return await services.stream(request, find, position_of(request))
    except TaskNotFound as error:
        raise await why_missing(services.broker, task, error) from None


@router.get(
    "/sessions/{session_id}/events",
    response_class=Response,
    responses=_SESSION_STREAM
    | {204: {"description": "The cursor is at the end of a closed session: there is nothing more."}}
    | problems(404, 406, 416, 422, 429, 503),
    openapi_extra=reads(SESSION_ID, SESSION_FROM, LAST_EVENT_ID),
)
@needs(Scope.READ, action=Action.READ, by_query=True)
async def get_session_events(request: Request) -> Response:
    """Stream the events of all tasks of a session, those that join it meanwhile too; each says its task."""
    return await services_of(request).stream_session(request, session_ref_of(request), session_position_of(request))


@router.post(
    "/workflows/{name}/stream",
    response_class=Response,
    responses=_STREAM | problems(404, 406, 409, 410, *BODY_PROBLEMS, 429, 503),
    openapi_extra=reads(WORKFLOW_NAME, IDEMPOTENCY_KEY) | takes(None, required=False),
)
@needs(Scope.SUBMIT, Scope.READ)
async def submit_and_stream(request: Request) -> Response:
    """Run a workflow and stream its events, in one call. The body is the workflow's input."""
    # Before there is a task that nobody would read.
    format_of(request)
    services, key, value = services_of(request), idempotency_key_of(request), await body_of(request, empty=None)
    asked = request_of(key, method="POST", path=request.scope["path"], body=value)
    allowance = Allowance(caller_of(request))
    wanted = Submission(
        request.path_params["name"], value, trace=trace_of(request.headers), request=asked, allowance=allowance
    )

    async def submit() -> TaskRef:
        return (await services.submitter.submit(tenant_of(request), wanted)).ref

    def headers(task: TaskRef) -> dict[str, str]:
        return {"Location": f"/v1/tasks/{task.task_id}", **allowance.headers}

    return await services.stream(request, submit, After(START), headers)
