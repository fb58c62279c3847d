"""The application, with an express lane: requests of the busiest routes go past FastAPI's layers.

Middlewares, routing through nested routers, dependencies and exit stacks cost a request half a millisecond of CPU,
several times its own work, and a stream that stays open keeps them all in memory. These routes are ordinary routes of
FastAPI, which documents them; they take the request as it is and return a response, so that nothing in between is
missed. Whatever is not one of them goes the whole way.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from tailplane.broker import tracing
from tailplane.control_plane import security_headers
from tailplane.control_plane.access import Need, let_in, need_of
from tailplane.control_plane.cors import is_of_page, with_cors
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.problems import answer_to
from tailplane.control_plane.request_log import REQUEST
from tailplane.control_plane.streaming import HEAD_ALONE, EventStream, StreamingApp
from tailplane.control_plane.tracing import note_answer, serving

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Lane:
    path: re.Pattern[str]
    endpoint: Endpoint
    route: Route
    need: Need


class ExpressApp(StreamingApp):
    """FastAPI, and an express lane for some of its routes. Requests are counted on both ways.

    What comes from the pages of `origins` goes through CORS first, whatever becomes of it.
    """

    def __init__(self, counts: Counts, origins: frozenset[str] = frozenset(), **options: Any) -> None:
        super().__init__(**options)
        self._with_cors = with_cors(self._serve, origins) if origins else None
        self._counts = counts
        self._lanes: dict[str, list[_Lane]] = {}

    def express(self, routes: Iterable[BaseRoute], endpoints: Iterable[Endpoint]) -> None:
        """Let the requests of those routes that have one of these endpoints go past all layers.

        Args:
            endpoints: take nothing but the request, and do without middlewares.
        """
        wanted = set(endpoints)
        for route in routes:
            if isinstance(route, Route) and route.endpoint in wanted:
                lane = _Lane(route.path_regex, route.endpoint, route, need_of(route.endpoint))
                for method in route.methods or ():
                    self._lanes.setdefault(method, []).append(lane)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            # As GET (RFC 9110 9.3.2): the server, who has the scope as it was, sends no body.
            scope = {**scope, "method": "GET", HEAD_ALONE: True}
        if self._with_cors is not None and scope["type"] == "http" and is_of_page(scope):
            await self._with_cors(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        # The server makes a task of each request: it ends with it.
        REQUEST.set(scope)
        began, lane = time.monotonic(), self._find(scope)
        if lane is None:
            await super().__call__(scope, receive, self._counting(scope, security_headers.secure(scope, send), began))
            return
        # Where FastAPI leaves them.
        scope["app"], scope["route"] = self, lane.route
        response = await _respond(lane, scope, receive)
        if response is not None:
            took = time.monotonic() - began
            self._counts.note_request(scope["method"], lane.route.path, response.status_code, took)
            # Into its head, not by a `send` of ours: each message of a stream would pass through that.
            security_headers.add(response.raw_headers)
        if isinstance(response, EventStream):
            await response.run(scope, receive, send)
        elif response is not None:
            await response(scope, receive, send)

    def _counting(self, scope: Scope, send: Send, began: float) -> Send:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The router has put the route there, if there is one.
                route = getattr(scope.get("route"), "path", "none")
                self._counts.note_request(scope["method"], route, message["status"], time.monotonic() - began)
            await send(message)

        return count

    def _find(self, scope: Scope) -> _Lane | None:
        # Behind a prefix the router knows better.
        if not scope.get("root_path"):
            for lane in self._lanes.get(scope["method"], ()):
                if match := lane.path.match(scope["path"]):
                    scope["path_params"] = match.groupdict()
                    return lane
        return None


async def _respond(lane: _Lane, scope: Scope, receive: Receive) -> Response | None:
    """Return the response; the request does not outlive this call, however long the response streams."""
    request = Request(scope, receive)
    # Submits alone have a span: reading and waiting would only show how long somebody listened.
    if scope["method"] != "POST" or not tracing.is_on():
        return await _answer(lane, request)
    with serving(request, lane.route.path) as span:
        response = await _answer(lane, request)
        note_answer(span, response)
        return response


async def _answer(lane: _Lane, request: Request) -> Response | None:
    try:
        await let_in(request, lane.need)
        return await lane.endpoint(request)
    except Exception as error:
        return answer_to(request, error)
