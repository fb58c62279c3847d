"""Stream tokens: what an application gives a browser, for one task or session (PROTOCOL.md 2.1)."""

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, caller_of, needs
from tailplane.control_plane.answers import answer
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, reads, takes
from tailplane.control_plane.parameters import SESSION_ID, TASK_ID, body_of, session_of, task_of
from tailplane.control_plane.services import services_of
from tailplane.control_plane.token_models import TOKEN_ID, IssuedToken, NewToken, token_form
from tailplane.protocol.ids import SessionId, TaskId

router = APIRouter(prefix="/v1", tags=["tokens"], route_class=GuardedRoute)


@router.post(
    "/tasks/{task_id}/tokens",
    status_code=201,
    response_model=IssuedToken,
    responses=also_msgpack(201, "IssuedToken") | problems(404, 410, *BODY_PROBLEMS, 503),
    openapi_extra=reads(TASK_ID) | takes(NewToken, required=False),
)
@needs()
async def issue_task_token(request: Request) -> Response:
    """Issue a stream token for a task; with an API key that may itself do what the token is for."""
    return await _issued(request, task_of(request).task_id)


@router.post(
    "/sessions/{session_id}/tokens",
    status_code=201,
    response_model=IssuedToken,
    responses=also_msgpack(201, "IssuedToken") | problems(404, *BODY_PROBLEMS, 503),
    openapi_extra=reads(SESSION_ID) | takes(NewToken, required=False),
)
@needs()
async def issue_session_token(request: Request) -> Response:
    """Issue a stream token for a session and its tasks, those that join it later, too."""
    return await _issued(request, session_of(request))


@router.delete(
    "/tokens/{token_id}",
    status_code=204,
    response_class=Response,
    responses=problems(404, 422, 503),
    openapi_extra=reads(TOKEN_ID),
)
@needs()
async def revoke_token(request: Request) -> Response:
    """Revoke a stream token: with the API key for which it was issued, or one of the tenant's with the scope admin."""
    await services_of(request).tokens.revoke(caller_of(request), request.path_params["token_id"])
    return Response(status_code=204)


async def _issued(request: Request, subject: TaskId | SessionId) -> Response:
    wanted = parse(NewToken, await body_of(request, empty={}))
    token, text = await services_of(request).tokens.issue(caller_of(request), subject, wanted.actions, wanted.life)
    return answer(request, token_form(token, text), status=201, headers={"Cache-Control": "no-store"})
