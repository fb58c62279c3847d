"""What the tasks of a session share: read it, and set it where nobody came between."""

from fastapi import APIRouter, Request, Response

from tailplane.broker import SessionRef
from tailplane.broker.session_state import check_key, pack_value
from tailplane.control_plane.access import GuardedRoute, caller_of, needs
from tailplane.control_plane.answers import answer
from tailplane.control_plane.bodies import parse
from tailplane.control_plane.documents import BODY_PROBLEMS, also_msgpack, problems, reads, takes
from tailplane.control_plane.forms import StateValue, StateValues
from tailplane.control_plane.models import SetState
from tailplane.control_plane.parameters import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    SESSION_ID,
    STATE_KEY,
    body_of,
    call_of,
    expected_version_of,
    session_ref_of,
)
from tailplane.control_plane.services import services_of
from tailplane.protocol.scopes import Scope
from tailplane.protocol.versioned import Versioned

router = APIRouter(prefix="/v1/sessions/{session_id}/state", tags=["sessions"], route_class=GuardedRoute)


@router.get(
    "",
    response_model=StateValues,
    responses=also_msgpack(200, "StateValues") | problems(404, 422, 503),
    openapi_extra=reads(SESSION_ID),
)
@needs(Scope.READ)
async def get_state(request: Request) -> Response:
    """Return all that the tasks of a session share."""
    ref = await _session(request)
    found = await services_of(request).broker.states.all(ref)
    state = {key: StateValue(key=key, value=each.value, version=each.version) for key, each in found.items()}
    return answer(request, StateValues(state=state))


@router.get(
    "/{key}",
    response_model=StateValue,
    responses=also_msgpack(200, "StateValue", "ETag") | problems(404, 422, 503),
    openapi_extra=reads(SESSION_ID, STATE_KEY),
)
@needs(Scope.READ)
async def get_state_value(request: Request) -> Response:
    """Return one value; null with version 0 where nothing was set."""
    key = check_key(request.path_params["key"])
    ref = await _session(request)
    return _answered(request, key, await services_of(request).broker.states.get(ref, key))


@router.put(
    "/{key}",
    response_model=StateValue,
    responses=also_msgpack(200, "StateValue", "ETag") | problems(404, 412, *BODY_PROBLEMS, 429, 503),
    openapi_extra=reads(SESSION_ID, STATE_KEY, IF_MATCH, IDEMPOTENCY_KEY) | takes(SetState, required=True),
)
@needs(Scope.SUBMIT)
async def set_state_value(request: Request) -> Response:
    """Set a value; with `If-Match` or `version`, only where it has that version."""
    key, call = check_key(request.path_params["key"]), call_of(request)
    wanted = parse(SetState, await body_of(request, empty={}))
    version = expected_version_of(request, wanted.version)
    packed = pack_value(wanted.value)
    ref = await _session(request)
    services = services_of(request)
    await services.limiter.check_stored(caller_of(request))
    made = await services.broker.states.set(ref, key, packed, version, call)
    services.stored.note(ref.tenant, len(packed))
    return _answered(request, key, Versioned(wanted.value, made))


async def _session(request: Request) -> SessionRef:
    """Return the session that the path names.

    Raises:
        SessionNotFound: there is none: what its tasks shared is gone, too.
    """
    ref = session_ref_of(request)
    await services_of(request).broker.catalogue.session(ref.tenant, ref.session_id)
    return ref


def _answered(request: Request, key: str, found: Versioned) -> Response:
    shown = StateValue(key=key, value=found.value, version=found.version)
    return answer(request, shown, headers={"ETag": f'"{found.version}"'})
