"""Answers as JSON or msgpack, whichever the request's `Accept` asks for. No I/O."""

import functools
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tailplane.control_plane.access import caller_of
from tailplane.protocol import codec, json_codec

JSON = "application/json"
MSGPACK = "application/msgpack"
# The registered name of today and the one of old say the same.
MSGPACK_TYPES = frozenset({MSGPACK, "application/vnd.msgpack", "application/x-msgpack"})

# What others have put into a task, session or schedule, and what came of it.
_CONTENT = frozenset({"input", "metadata", "concurrency_key", "concurrency_limit", "result", "error"})
# Characters of an Accept header that are read: a head of nothing but commas would take a tenth of a second.
MOST_ACCEPTED = 1000


def answer(
    request: Request, body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `body` in the format that the request asks for: JSON, unless msgpack is preferred by name."""
    if prefers_msgpack(request.headers.get("accept", "")):
        return Response(codec.pack(body), status, headers, MSGPACK)
    return Response(json_codec.to_json(body), status, headers, JSON)


def told(request: Request, form: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a request's caller may know of a thing that it has not sent: without `read`, not what is in it."""
    if caller_of(request).may_read:
        return form
    return {name: value for name, value in form.items() if name not in _CONTENT}


def prefers_msgpack(accept: str) -> bool:
    """Whether an Accept header names msgpack, and JSON neither with more weight nor, weighed alike, before it."""
    return _prefers_msgpack(accept[:MOST_ACCEPTED])


@functools.lru_cache(maxsize=256)
def _prefers_msgpack(accept: str) -> bool:
    ranges = sorted((_parse_range(part) for part in accept.split(",")), key=lambda each: -each[1])
    named = [kind for kind, weight in ranges if weight > 0 and (kind == JSON or kind in MSGPACK_TYPES)]
    return bool(named) and named[0] != JSON


def _parse_range(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return kind, float(parameter[2:])
            except ValueError:
                return kind, 0.0
    return kind, 1.0
