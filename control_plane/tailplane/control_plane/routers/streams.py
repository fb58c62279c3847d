"""Streams: what a task says, while it says it (PROTOCOL.md 3)."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from tailplane.control_plane.documents import BODY_PROBLEMS, problems, takes
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.lookup import telling_gone
from tailplane.control_plane.models import WORKFLOW_PATTERN
from tailplane.control_plane.parameters import IdempotencyKey, InputOf, PositionOf, TaskOf, Tenant
from tailplane.control_plane.services import ServicesOf
from tailplane.control_plane.streaming import format_of
from tailplane.control_plane.submit import Submission
from tailplane.control_plane.trace import trace_of
from tailplane.protocol.cursor import START, After
from tailplane.protocol.frames import MSGPACK_TYPE
from tailplane.protocol.text_frames import NDJSON_TYPE, SSE_TYPE

router = APIRouter(prefix="/v1", tags=["streams"])

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


@router.get(
    "/tasks/{task_id}/events",
    response_class=Response,
    responses=_STREAM
    | {204: {"description": "The cursor is at the end of an ended task: there is nothing more."}}
    | problems(404, 406, 410, 416, 422, 503),
)
async def get_events(request: Request, services: ServicesOf, task: TaskOf, position: PositionOf) -> Response:
    """Stream the events of a task: SSE, NDJSON or msgpack frames by `Accept`."""
    async with telling_gone(services.broker, task):
        return await services.stream(request, task, position)


@router.post(
    "/workflows/{name}/stream",
    response_class=Response,
    responses=_STREAM | problems(404, 406, 409, 410, *BODY_PROBLEMS, 503),
    openapi_extra=dict(takes(None, required=False)),
)
async def submit_and_stream(
    request: Request,
    services: ServicesOf,
    tenant: Tenant,
    name: Annotated[str, Path(json_schema_extra={"pattern": WORKFLOW_PATTERN, "examples": ["my_workflow"]})],
    value: InputOf,
    key: IdempotencyKey = None,
) -> Response:
    """Run a workflow and stream its events, in one call. The body is the workflow's input."""
    # Before there is a task that nobody would read.
    format_of(request)
    asked = request_of(key, method="POST", path=request.url.path, body=value)
    wanted = Submission(name, value, trace=trace_of(request.headers), request=asked)
    task = (await services.submitter.submit(tenant, wanted)).ref
    headers = {"Location": f"/v1/tasks/{task.task_id}"}
    return await services.stream(request, task, After(START), headers)
