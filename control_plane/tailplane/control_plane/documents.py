"""What the OpenAPI document says beyond what FastAPI finds in the routes: bodies in two formats, and problems."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.routing import BaseRoute

from tailplane.control_plane import examples
from tailplane.control_plane.access import GuardedRoute, need_of
from tailplane.control_plane.answers import JSON, MSGPACK
from tailplane.control_plane.parameters import Parameter
from tailplane.control_plane.problems import PROBLEM_TYPE
from tailplane.protocol.errors import BY_CODE

_PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Some codes bring more fields.",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": sorted(BY_CODE)},
        "hint": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                },
                "required": ["loc", "msg"],
            },
        },
        "retry_after": {"type": "number", "description": "Seconds."},
    },
    "required": ["type", "title", "status", "detail", "code"],
    "examples": [examples.PROBLEM],
}

_WHEN = {
    401: "The request has no credential that is good.",
    403: "The credential does not go so far.",
    404: "There is no such thing.",
    406: "Nothing that `Accept` takes is on offer.",
    409: "It does not go with what was done before.",
    410: "It was there; its retention has passed.",
    412: "It has another version than the one that was demanded.",
    413: "The body is over the limit.",
    415: "Neither JSON nor msgpack.",
    416: "The cursor is past the stream's end.",
    422: "The request is malformed, or the input does not fit.",
    429: "A limit is reached: of the queue, the tenant or the API key; try again after `Retry-After`.",
    503: "Redis is away, or the process is about to stop; try again.",
}

_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key: tp_..."},
    "token": {"type": "http", "scheme": "bearer", "description": "A stream token: tps_..."},
    "token_in_query": {"type": "apiKey", "in": "query", "name": "token", "description": "A stream token."},
}

# What can happen to any call with a body.
BODY_PROBLEMS = (413, 415, 422)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer these problems."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": f"{HTTPStatus(status).phrase}. {_WHEN[status]}", "content": content}
        for status in statuses
    }


def also_msgpack(status: int, form: str, *headers: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` entry that adds msgpack, and headers, to an answer."""
    return {
        status: {
            "content": {MSGPACK: {"schema": {"$ref": f"#/components/schemas/{form}"}}},
            "headers": {name: {"schema": {"type": "string"}} for name in headers},
        }
    }


def reads(*parameters: Parameter) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads these by itself."""
    return {"parameters": [parameter.about for parameter in parameters]}


def takes(model: type[BaseModel] | None, *, required: bool) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body is `model`, or any value."""
    media = {"schema": model.model_json_schema() if model else {}}
    if model is None:
        media["example"] = {"n": 3}
    return {"requestBody": {"required": required, "content": {JSON: media, MSGPACK: media}}}


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Let the document of `app`, whose routes these are, name what their extras refer to, and say what they demand."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            made["components"]["schemas"]["Problem"] = _PROBLEM_SCHEMA
            made["components"]["securitySchemes"] = _SCHEMES
            _describe_access(routes, made["paths"])
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _describe_access(routes: Sequence[BaseRoute], paths: dict[str, Any]) -> None:
    """Say of each guarded operation which credentials it takes, and how it refuses."""
    for route in _guarded(routes):
        need = need_of(route.endpoint)
        for method in () if need.is_open else route.methods or ():
            operation = paths[route.path_format][method.lower()]
            ways = ["key", *(["token"] if need.action else []), *(["token_in_query"] if need.by_query else [])]
            operation["security"] = [{way: []} for way in ways]
            operation["responses"] |= {str(status): said for status, said in problems(401, 403).items()}


def _guarded(routes: Sequence[BaseRoute]) -> Iterator[GuardedRoute]:
    return (route for route in routes if isinstance(route, GuardedRoute))
