"""API keys: create, list, look at, rotate, revoke; and who the caller is. No answer of these may be kept by a cache."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from tailplane.control_plane.access import GuardedRoute, caller_of, needs
from tailplane.control_plane.answers import answer
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, reads, takes
from tailplane.control_plane.idempotency import request_of
from tailplane.control_plane.key_models import (
    ApiKeyInfo,
    ApiKeyPage,
    ApiKeyWithText,
    NewApiKey,
    Rotation,
    Whoami,
    key_form,
    key_form_with_text,
    whoami_form,
)
from tailplane.control_plane.parameters import (
    IDEMPOTENCY_KEY_ONCE,
    KEY_ID,
    AfterKey,
    Limit,
    body_of,
    idempotency_key_of,
    key_of,
)
from tailplane.control_plane.services import services_of
from tailplane.protocol.ids import parse_key_id
from tailplane.protocol.scopes import Scope

router = APIRouter(prefix="/v1", tags=["keys"], route_class=GuardedRoute)


@router.post(
    "/keys",
    status_code=201,
    response_model=ApiKeyWithText,
    responses=also_msgpack(201, "ApiKeyWithText", "Location") | problems(409, *BODY_PROBLEMS, 503),
    openapi_extra=reads(IDEMPOTENCY_KEY_ONCE) | takes(NewApiKey, required=True),
)
@needs(Scope.ADMIN)
async def create_key(request: Request) -> Response:
    """Create an API key of the caller's tenant. `key` is told this once: only its digest is kept."""
    key, body = idempotency_key_of(request), await body_of(request, empty={})
    asked = request_of(key, method="POST", path=request.scope["path"], body=body)
    caller = caller_of(request)
    new = parse(NewApiKey, body).of(caller.tenant)
    record, made = await services_of(request).keys.create(caller, new, asked)
    headers = {"Location": f"/v1/keys/{record.key_id}"}
    return _answer(request, key_form_with_text(record, made), status=201, headers=headers)


@router.get("/keys", response_model=ApiKeyPage, responses=also_msgpack(200, "ApiKeyPage") | problems(422, 503))
@needs(Scope.ADMIN)
async def get_keys(request: Request, limit: Limit = 50, page: AfterKey = None) -> Response:
    """List the API keys of the caller's tenant, the oldest first; revoked and expired ones, too."""
    after = None if page is None else parse_key_id(page)
    found = await services_of(request).keys.page(caller_of(request), limit=limit, after=after)
    return _answer(request, ApiKeyPage(keys=[key_form(record) for record in found.keys], next_page=found.next))


@router.get(
    "/keys/{key_id}",
    response_model=ApiKeyInfo,
    responses=also_msgpack(200, "ApiKeyInfo") | problems(404, 422, 503),
    openapi_extra=reads(KEY_ID),
)
@needs(Scope.ADMIN)
async def get_key(request: Request) -> Response:
    """Return an API key, without its secret."""
    return _answer(request, key_form(await services_of(request).keys.find(caller_of(request), key_of(request))))


@router.post(
    "/keys/{key_id}/rotate",
    response_model=ApiKeyWithText,
    responses=also_msgpack(200, "ApiKeyWithText") | problems(404, 409, *BODY_PROBLEMS, 503),
    openapi_extra=reads(KEY_ID) | takes(Rotation, required=False),
)
@needs(Scope.ADMIN)
async def rotate_key(request: Request) -> Response:
    """Give an API key a new secret, told this once. Until `grace_ms` have passed, the ones before are good, too."""
    wanted = parse(Rotation, await body_of(request, empty={}))
    keys = services_of(request).keys
    record, made = await keys.rotate(caller_of(request), key_of(request), wanted.grace)
    return _answer(request, key_form_with_text(record, made))


@router.delete(
    "/keys/{key_id}",
    status_code=204,
    response_class=Response,
    responses=problems(404, 409, 422, 503),
    openapi_extra=reads(KEY_ID),
)
@needs(Scope.ADMIN)
async def revoke_key(request: Request) -> Response:
    """Let an API key, and the stream tokens that it has signed, be good for nothing from now on."""
    await services_of(request).keys.revoke(caller_of(request), key_of(request))
    return Response(status_code=204, headers=_NOT_KEPT)


@router.get("/whoami", response_model=Whoami, responses=also_msgpack(200, "Whoami") | problems(503))
@needs()
async def whoami(request: Request) -> Response:
    """Say who the caller is, and what it may do. Any API key will do."""
    caller = caller_of(request)
    record = None if caller.key_id is None else await services_of(request).keys.find(caller, caller.key_id)
    return _answer(request, whoami_form(caller, record))


_NOT_KEPT = {"Cache-Control": "no-store"}


def _answer(
    request: Request, body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return answer(request, body, status=status, headers={**(headers or {}), **_NOT_KEPT})
