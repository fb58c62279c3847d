"""Errors as RFC 9457 problem documents: the one file that maps what is raised to what is answered.

TailplaneError            its own status and document; Retry-After where it says when to try again,
                          WWW-Authenticate where a credential is missing
RequestValidationError    422 invalid_request: a parameter or header that does not fit
HTTPException             its status (404 and 405 of the router, 406, 415), code `bad_request`
anything else             500 internal: logged with its traceback, of which the answer tells nothing
"""

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailplane.control_plane import limit_fields
from tailplane.protocol import json_codec
from tailplane.protocol.errors import InvalidRequest, RequestError, TailplaneError, Unauthenticated, Unavailable
from tailplane.protocol.redaction import mask_credentials

PROBLEM_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every error of `app`, whose routes these are, with a problem document."""

    async def http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _http_exception(request, error, routes)

    app.add_exception_handler(TailplaneError, _tailplane_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_middleware(UnexpectedErrors)


def answer_to(request: Request, error: Exception) -> Response | None:
    """Return what to answer where a route has raised `error`; None: nobody is left to answer."""
    match error:
        case TailplaneError():
            return problem_response(error)
        case HTTPException():
            return _http_exception(request, error, ())
        case ClientDisconnect():
            return None
        case _:
            log.error("unexpected error", method=request.method, path=request.url.path, exc_info=error)
            return problem_response(TailplaneError())


def problem_response(error: TailplaneError) -> Response:
    """Return an error of ours as a response."""
    headers = limit_fields.of_error(error)
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="tailplane"'
    return _response(error.problem(), headers)


class UnexpectedErrors:
    """Answers 500 for an exception that nobody expected.

    Starlette's own would answer and then raise all the same, for the server to log it a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application behind, and mind what it raises."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            # It hung up in the middle of its body: nobody is left to answer.
            return
        except Exception:
            # Too late for an answer: the server logs it and cuts the connection, so that the reader notices.
            if started or scope["type"] != "http":
                raise
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            await problem_response(TailplaneError())(scope, receive, send)


async def _tailplane_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TailplaneError)
    return problem_response(error)


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [{"loc": list(each["loc"]), "msg": each["msg"]} for each in error.errors()]
    where = ".".join(str(part) for part in errors[0]["loc"])
    return problem_response(InvalidRequest(f"{where}: {errors[0]['msg']}", errors=errors))


def _http_exception(request: Request, error: HTTPException, routes: Sequence[BaseRoute]) -> Response:
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (allowed := _allowed(request, routes)):
        # The router names the methods of the first route of that path only.
        headers["Allow"] = ", ".join(sorted(allowed))
    title = HTTPStatus(error.status_code).phrase
    document = RequestError(error.detail).problem() | {"status": error.status_code, "title": title}
    return _response(document, headers)


def _allowed(request: Request, routes: Sequence[BaseRoute]) -> set[str]:
    there = [route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE]
    methods = {method for route in there for method in route.methods or ()}
    # See `ExpressApp`.
    return methods | {"HEAD"} if "GET" in methods else methods


def _response(document: dict[str, Any], headers: dict[str, str]) -> Response:
    # Problems repeat what was sent, and a key may be where an id was due: proxies and clients log such answers.
    body = mask_credentials(json_codec.to_json(document).decode())
    return Response(body, document["status"], headers, PROBLEM_TYPE)
