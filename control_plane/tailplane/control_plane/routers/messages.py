"""Messages to tasks, and what a task has done so far."""

from fastapi import APIRouter, Request, Response

from tailplane.broker.memory import load
from tailplane.control_plane.access import GuardedRoute, needs
from tailplane.control_plane.answers import answer
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, reads, takes
from tailplane.control_plane.forms import DeliveredMessage, StepList, step_form
from tailplane.control_plane.lookup import find_task, why_missing
from tailplane.control_plane.models import SendEvent
from tailplane.control_plane.parameters import IDEMPOTENCY_KEY, TASK_ID, body_of, idempotency_key_of, task_of
from tailplane.control_plane.services import services_of
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.scopes import Action, Scope

router = APIRouter(prefix="/v1/tasks", tags=["tasks"], route_class=GuardedRoute)


@router.post(
    "/{task_id}/events",
    status_code=202,
    response_model=DeliveredMessage,
    responses=also_msgpack(202, "DeliveredMessage") | problems(404, 409, 410, *BODY_PROBLEMS, 503),
    openapi_extra=reads(TASK_ID, IDEMPOTENCY_KEY) | takes(SendEvent, required=True),
)
@needs(Scope.SUBMIT, action=Action.ANSWER)
async def send_event(request: Request) -> Response:
    """Send a message to a task: its workflow gets it from `wait_for_event`, once, whether it waits already or not."""
    services, task, key = services_of(request), task_of(request), idempotency_key_of(request)
    wanted, most = parse(SendEvent, await body_of(request, empty={})), services.settings
    try:
        delivered = await services.broker.deliveries.deliver(
            task, wanted.type, wanted.data, key=key, most=most.max_messages, most_bytes=most.max_inbox_bytes
        )
    except TaskNotFound as error:
        raise await why_missing(services.broker, task, error) from None
    return answer(request, DeliveredMessage(task_id=task.task_id, number=delivered.number), status=202)


@router.get(
    "/{task_id}/steps",
    response_model=StepList,
    responses=also_msgpack(200, "StepList") | problems(404, 410, 422, 503),
    openapi_extra=reads(TASK_ID),
)
@needs(Scope.READ, action=Action.READ)
async def list_steps(request: Request) -> Response:
    """List what a task has done durably, in the order in which it began: steps, waits and children."""
    services, task = services_of(request), task_of(request)
    await find_task(services.broker, task, ("state",))
    memory = await load(services.broker.tasks.wire, services.broker.keys, task)
    steps = sorted(memory.steps.items(), key=lambda each: (each[1].started_at, each[0]))
    return answer(request, StepList(steps=[step_form(step_id, step) for step_id, step in steps]))
