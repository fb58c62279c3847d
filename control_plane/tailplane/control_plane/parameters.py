"""What routes take from a request: the tenant, ids from the path, headers, the body; each read in one place."""

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from pydantic.json_schema import SkipJsonSchema

from tailplane.broker import TaskRef
from tailplane.control_plane import examples
from tailplane.control_plane.bodies import read_body
from tailplane.control_plane.services import ServicesOf
from tailplane.protocol.cursor import Position, parse_position
from tailplane.protocol.ids import DEFAULT_TENANT, SessionId, parse_session_id, parse_task_id

_ID_PATTERN = "^{}_[0-9abcdefghjkmnpqrstvwxyz]{{26}}$"
_KEY_PATTERN = r"^[\x20-\x7e]{1,200}$"
# Documented only: the ids' own parser decides, and its error has a code of its own.
TASK_ID_SCHEMA: dict[str, Any] = {"pattern": _ID_PATTERN.format("t"), "examples": [examples.TASK_ID]}
SESSION_ID_SCHEMA: dict[str, Any] = {"pattern": _ID_PATTERN.format("s"), "examples": [examples.SESSION_ID]}
_POSITION_SCHEMA: dict[str, Any] = {"pattern": "^(start|now|-?[0-9]{1,19})$", "examples": ["start", "42", "-10"]}


async def tenant_of(request: Request) -> str:
    """Return the tenant on whose behalf a request is made: one for all, as long as nobody signs in."""
    return DEFAULT_TENANT


Tenant = Annotated[str, Depends(tenant_of)]


async def task_of(task_id: Annotated[str, Path(json_schema_extra=TASK_ID_SCHEMA)], tenant: Tenant) -> TaskRef:
    """Return the task that the path names."""
    return TaskRef(parse_task_id(task_id), tenant)


async def session_of(session_id: Annotated[str, Path(json_schema_extra=SESSION_ID_SCHEMA)]) -> SessionId:
    """Return the session that the path names."""
    return parse_session_id(session_id)


async def body_of(request: Request, services: ServicesOf) -> Any:
    """Return the value that the body holds; an empty body is one without fields."""
    return await read_body(request, services.settings.max_body_bytes, empty={})


async def input_of(request: Request, services: ServicesOf) -> Any:
    """Return the workflow's input, where that is all the body holds; None for an empty one."""
    return await read_body(request, services.settings.max_body_bytes, empty=None)


async def position_of(
    last_event_id: Annotated[
        str | SkipJsonSchema[None],
        Header(alias="Last-Event-ID", description="The last event seen; wins over `from`. Browsers send it."),
    ] = None,
    start: Annotated[
        str,
        Query(
            alias="from",
            description="The seq of the last event seen, or `start`, `now`, or `-N` for the last N events.",
            json_schema_extra=_POSITION_SCHEMA,
        ),
    ] = "start",
) -> Position:
    """Return where to begin."""
    return parse_position(last_event_id or start)


TaskOf = Annotated[TaskRef, Depends(task_of)]
SessionOf = Annotated[SessionId, Depends(session_of)]
BodyOf = Annotated[Any, Depends(body_of)]
InputOf = Annotated[Any, Depends(input_of)]
PositionOf = Annotated[Position, Depends(position_of)]
IdempotencyKey = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        pattern=_KEY_PATTERN,
        # Of an optional parameter FastAPI's document leaves the pattern out.
        json_schema_extra={"pattern": _KEY_PATTERN},
        description="The same key with the same request makes one thing, and gives the same answer for 24 hours.",
    ),
]
