"""What routes take from a request: ids from the path, headers, the query, the body; each read, and documented, here.

Plain functions of the request, not FastAPI's dependencies: those cost a busy route more than its own work does.
"""

import functools
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.json_schema import SkipJsonSchema
from starlette.datastructures import QueryParams
from starlette.requests import Request

from tailplane.broker import SessionRef, TaskRef
from tailplane.control_plane import examples
from tailplane.control_plane.access import caller_of
from tailplane.control_plane.bodies import read_body
from tailplane.control_plane.models import WORKFLOW_PATTERN
from tailplane.control_plane.services import services_of
from tailplane.protocol.cursor import Position, parse_position
from tailplane.protocol.errors import InvalidRequest
from tailplane.protocol.ids import (
    KeyId,
    SessionId,
    check_schedule_name,
    parse_key_id,
    parse_session_id,
    parse_task_id,
)
from tailplane.protocol.session_cursor import SessionPosition, parse_session_position

# Seconds for which an answer may be held back.
LONGEST_WAIT = 60

_ID_PATTERN = "^{}_[0-9abcdefghjkmnpqrstvwxyz]{{26}}$"
_TAG_PATTERN = r'^"[0-9]{1,15}"$'
_KEY_PATTERN = r"^[\x20-\x7e]{1,200}$"
# Documented only: the ids' own parser decides, and its error has a code of its own.
TASK_ID_SCHEMA: dict[str, Any] = {"pattern": _ID_PATTERN.format("t"), "examples": [examples.TASK_ID]}
KEY_ID_SCHEMA: dict[str, Any] = {"pattern": _ID_PATTERN.format("k"), "examples": [examples.KEY_ID]}
SESSION_ID_SCHEMA: dict[str, Any] = {"pattern": _ID_PATTERN.format("s"), "examples": [examples.SESSION_ID]}

_KEY = re.compile(_KEY_PATTERN[:-1])
_TAG = re.compile(r'"([0-9]{1,15})"')
SCHEDULE_PATTERN = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"

_WAIT: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(ge=0, le=LONGEST_WAIT)])
_PREFERRED_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Parameter:
    """How the OpenAPI document describes what these functions read."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    description: str | None = None
    about: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        said = {"description": self.description} if self.description else {}
        schema = {"type": "string", "title": self.name.replace("_", " ").title(), **self.schema, **said}
        about = {"name": self.name, "in": self.place, "required": self.place == "path", "schema": schema, **said}
        object.__setattr__(self, "about", about)


TASK_ID = Parameter("task_id", "path", TASK_ID_SCHEMA)
SESSION_ID = Parameter("session_id", "path", SESSION_ID_SCHEMA)
WORKFLOW_NAME = Parameter("name", "path", {"pattern": WORKFLOW_PATTERN, "examples": ["my_workflow"]})
SCHEDULE_NAME = Parameter("name", "path", {"pattern": SCHEDULE_PATTERN, "examples": ["nightly"]})
WAIT = Parameter(
    "wait",
    "query",
    {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
    "How long to wait for its end, in seconds.",
)
FROM = Parameter(
    "from",
    "query",
    {"pattern": "^(start|now|-?[0-9]{1,19})$", "examples": ["start", "42", "-10"], "default": "start"},
    "The seq of the last event seen, or `start`, `now`, or `-N` for the last N events.",
)
SESSION_FROM = Parameter(
    "from",
    "query",
    {"pattern": "^(start|now|[A-Za-z0-9_-]+)$", "examples": ["start", "now"], "default": "start"},
    "A cursor that the session's stream has sent, or `start`, or `now`.",
)
LAST_EVENT_ID = Parameter("Last-Event-ID", "header", {}, "The last event seen; wins over `from`. Browsers send it.")
STATE_KEY = Parameter("key", "path", {"pattern": "^[A-Za-z0-9_.:-]{1,128}$", "examples": ["plan"]})
IF_MATCH = Parameter(
    "If-Match",
    "header",
    {"pattern": _TAG_PATTERN, "examples": ['"3"']},
    "The version that the value must have now, as in `ETag`; the same as `version` in the body.",
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    {"pattern": _KEY_PATTERN},
    "The same key with the same request makes one thing, and gives the same answer for 24 hours.",
)
IDEMPOTENCY_KEY_ONCE = Parameter(
    "Idempotency-Key",
    "header",
    {"pattern": _KEY_PATTERN},
    "The same key with the same request makes one API key within 24 hours. Its secret can't be told again: the answer "
    "to a repetition is 409 `key_made` with its `key_id`.",
)
KEY_ID = Parameter("key_id", "path", KEY_ID_SCHEMA)
PREFER = Parameter(
    "Prefer",
    "header",
    {"examples": ["wait=10"]},
    "`wait=N` (RFC 7240): answer when the task has ended, with what came of it, or after N seconds, at most 60.",
)


# Of lists; FastAPI reads these.
OfWorkflow = Annotated[
    str | SkipJsonSchema[None],
    Query(
        pattern=WORKFLOW_PATTERN,
        description="Only tasks of this workflow.",
        json_schema_extra={"pattern": WORKFLOW_PATTERN},
    ),
]
OfSchedule = Annotated[
    str | SkipJsonSchema[None],
    Query(
        pattern=SCHEDULE_PATTERN,
        description="Only tasks that this schedule fired.",
        json_schema_extra={"pattern": SCHEDULE_PATTERN},
    ),
]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at the most.")]
AfterName = Annotated[
    str | SkipJsonSchema[None],
    Query(pattern=SCHEDULE_PATTERN, description="The previous page's `next_page`."),
]
PageAfter = Annotated[
    str | SkipJsonSchema[None],
    Query(description="The previous page's `next_page`.", json_schema_extra=TASK_ID_SCHEMA),
]

AfterKey = Annotated[
    str | SkipJsonSchema[None],
    Query(description="The previous page's `next_page`.", json_schema_extra=KEY_ID_SCHEMA),
]


def tenant_of(request: Request) -> str:
    """Return the tenant on whose behalf a request is made."""
    return caller_of(request).tenant


def task_of(request: Request) -> TaskRef:
    """Return the task that the path names."""
    return TaskRef(parse_task_id(request.path_params["task_id"]), tenant_of(request))


def key_of(request: Request) -> KeyId:
    """Return the API key that the path names."""
    return parse_key_id(request.path_params["key_id"])


def session_of(request: Request) -> SessionId:
    """Return the session that the path names."""
    return parse_session_id(request.path_params["session_id"])


def schedule_of(request: Request) -> str:
    """Return the name of the schedule that the path names."""
    return check_schedule_name(request.path_params["name"])


def session_ref_of(request: Request) -> SessionRef:
    """Return the session that the path names, with its tenant."""
    return SessionRef(session_of(request), tenant_of(request))


async def body_of(request: Request, *, empty: Any) -> Any:
    """Return the value that the body holds; `empty` is what no body at all stands for."""
    settings = services_of(request).settings
    return await read_body(request, settings.max_body_bytes, max_containers=settings.max_body_containers, empty=empty)


def idempotency_key_of(request: Request) -> str | None:
    """Return the idempotency key, None if there is none.

    Raises:
        InvalidRequest: it is malformed.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise _malformed("header", "Idempotency-Key", f"String should match pattern '{_KEY_PATTERN}'")
    return key


def call_of(request: Request) -> str:
    """Return what tells a request that may be repeated from others: its idempotency key's digest, or something new.

    Raises:
        InvalidRequest: the key is malformed.
    """
    key = idempotency_key_of(request)
    return os.urandom(8).hex() if key is None else hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def expected_version_of(request: Request, said: int | None) -> int | None:
    """Return the version that a value must have now, None for any; `said` is what the body demands.

    Raises:
        InvalidRequest: the header is malformed, or demands another version than the body.
    """
    tag = request.headers.get("if-match")
    if tag is None:
        return said
    found = _TAG.fullmatch(tag)
    if found is None:
        raise _malformed("header", "If-Match", f"String should match pattern '{_TAG_PATTERN}'")
    if said is not None and said != int(found[1]):
        raise _malformed("header", "If-Match", f"It demands version {found[1]}, and the body version {said}")
    return int(found[1])


def wait_of(request: Request) -> float:
    """Return for how many seconds an answer may be held back.

    Raises:
        InvalidRequest: it is no number from 0 to 60.
    """
    return _wait_in(request.scope["query_string"])


@functools.lru_cache(maxsize=256)
def _wait_in(query: bytes) -> float:
    text = QueryParams(query).get("wait", "0")
    try:
        return _WAIT.validate_python(text)
    except ValidationError as error:
        raise _malformed("query", "wait", error.errors()[0]["msg"]) from None


def preferred_wait_of(request: Request) -> int:
    """Return for how many seconds the caller would like to wait; 0 for none, and for a malformed wish (RFC 7240)."""
    wish = _PREFERRED_WAIT.search(request.headers.get("prefer", ""))
    return min(int(wish[1]), LONGEST_WAIT) if wish else 0


def position_of(request: Request) -> Position:
    """Return where a stream is to begin.

    Raises:
        InvalidCursor: malformed.
    """
    seen = request.headers.get("last-event-id")
    return parse_position(seen or request.query_params.get("from", "start"))


def session_position_of(request: Request) -> SessionPosition:
    """Return where a session's stream is to begin.

    Raises:
        InvalidCursor: malformed.
    """
    seen = request.headers.get("last-event-id")
    return parse_session_position(seen or request.query_params.get("from", "start"))


def _malformed(place: str, name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{place}.{name}: {message}", errors=[{"loc": [place, name], "msg": message}])
