"""Dead letters: the tasks that failed; list, run again, drop."""

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, caller_of, needs
from tailplane.control_plane.answers import answer, told
from tailplane.control_plane.documents import also_msgpack, problems, reads
from tailplane.control_plane.forms import DeadLetterPage, Task, dead_letter_form, task_form
from tailplane.control_plane.limiter import Allowance
from tailplane.control_plane.parameters import TASK_ID, Limit, OfWorkflow, PageAfter, task_of, tenant_of
from tailplane.control_plane.services import services_of
from tailplane.control_plane.tracing import trace_of
from tailplane.protocol.ids import parse_task_id
from tailplane.protocol.scopes import Scope

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], route_class=GuardedRoute)


@router.get("", response_model=DeadLetterPage, responses=also_msgpack(200, "DeadLetterPage") | problems(422, 503))
@needs(Scope.READ)
async def get_dead_letters(
    request: Request, workflow: OfWorkflow = None, limit: Limit = 50, page: PageAfter = None
) -> Response:
    """List the tasks that failed, newest first. With a filter a page may be short, even empty, and not the last."""
    before = None if page is None else parse_task_id(page)
    letters = services_of(request).dead_letters
    found = await letters.page(tenant_of(request), workflow, limit=limit, before=before)
    listed = [dead_letter_form(task) for task in found.tasks]
    return answer(request, DeadLetterPage(dead_letters=listed, next_page=found.next))


@router.post(
    "/{task_id}/requeue",
    status_code=201,
    response_model=Task,
    responses=also_msgpack(201, "Task", "Location") | problems(404, 410, 422, 429, 503),
    openapi_extra=reads(TASK_ID),
)
@needs(Scope.SUBMIT)
async def requeue_dead_letter(request: Request) -> Response:
    """Run a failed task again as a new task, and take it off the list. Asked again, the answer is the same new task."""
    allowance = Allowance(caller_of(request))
    task = await services_of(request).dead_letters.requeue(task_of(request), trace_of(request.headers), allowance)
    headers = {"Location": f"/v1/tasks/{task.task_id}", **allowance.headers}
    return answer(request, told(request, task_form(task)), status=201, headers=headers)


@router.delete(
    "/{task_id}",
    status_code=204,
    response_class=Response,
    responses=problems(404, 410, 422, 503),
    openapi_extra=reads(TASK_ID),
)
@needs(Scope.ADMIN)
async def drop_dead_letter(request: Request) -> Response:
    """Take a failed task off the list for good."""
    await services_of(request).dead_letters.drop(task_of(request))
    return Response(status_code=204)
