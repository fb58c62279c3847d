"""What a route demands of its callers, and who the caller is. Every route says so: one that does not can't be made.

    @router.get("/{task_id}")
    @needs(Scope.READ, action=Action.READ)
    async def get_task(request: Request) -> Response: ...

`GuardedRoute` lets the doorkeeper (`doorkeeper.py`) look at a request before anything else is read of it; the express
lane does the same.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from tailplane.protocol.credentials import StreamToken
from tailplane.protocol.errors import Forbidden
from tailplane.protocol.ids import DEFAULT_TENANT, KeyId
from tailplane.protocol.scopes import Action, Scope

E = TypeVar("E", bound=Callable[..., Awaitable[Response]])

_CALLER = "tailplane.caller"
_NEED = "__tailplane_need__"


@dataclass(frozen=True, slots=True)
class Need:
    """What a caller must have.

    Attributes:
        scopes: all of which an API key must have; none: any key will do.
        action: the stream token of the task, or session, that the path names will do too, if it is for this.
        by_query: a stream token may come in the query, as browsers send it for an EventSource.
        is_open: nobody is asked for anything.
    """

    scopes: frozenset[Scope] = frozenset()
    action: Action | None = None
    by_query: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request is made.

    Attributes:
        key_id: the API key, or that for which the stream token was issued; None: nobody signs in here.
        scopes: what the key allows, those included that are implied.
        token: the stream token, where it came with one.
        expires_at: when the credential ends by itself, in seconds since the epoch; None: never.
    """

    tenant: str
    key_id: KeyId | None
    scopes: frozenset[Scope]
    token: StreamToken | None = None
    expires_at: float | None = None

    @property
    def may_read(self) -> bool:
        """Whether it may be told what is in a task, session or schedule, where it may do anything with that."""
        return Scope.READ in self.scopes or (self.token is not None and Action.READ in self.token.actions)


# Where nobody signs in.
ANYBODY = Caller(DEFAULT_TENANT, None, frozenset(Scope))


def needs(*scopes: Scope, action: Action | None = None, by_query: bool = False) -> Callable[[E], E]:
    """Say what an endpoint demands."""
    return _noting(Need(frozenset(scopes), action, by_query))


def open_to_all(endpoint: E) -> E:
    """Say that an endpoint asks nobody for anything."""
    return _noting(Need(is_open=True))(endpoint)


def _noting(need: Need) -> Callable[[E], E]:
    def note(endpoint: E) -> E:
        setattr(endpoint, _NEED, need)
        return endpoint

    return note


def need_of(endpoint: Callable[..., Any]) -> Need:
    """Return what an endpoint demands.

    Raises:
        TypeError: it does not say.
    """
    need = getattr(endpoint, _NEED, None)
    if not isinstance(need, Need):
        raise TypeError(f"{endpoint.__qualname__} does not say who may call it: see access.needs")
    return need


class GuardedRoute(APIRoute):
    """A route whose callers the doorkeeper looks at first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what FastAPI calls with a request."""
        handle, need = super().get_route_handler(), need_of(self.endpoint)

        async def guarded(request: Request) -> Response:
            await let_in(request, need)
            return await handle(request)

        return guarded


def check_scopes(caller: Caller, *scopes: Scope) -> None:
    """Let an API key's holder pass who has these: what a route demands, or more where the request asks for more.

    Raises:
        Forbidden: the key lacks one.
    """
    if missing := sorted(frozenset(scopes) - caller.scopes):
        raise Forbidden(f"the API key lacks the scope {', '.join(missing)}", missing=missing)


async def let_in(request: Request, need: Need) -> None:
    """Find out who makes a request, and note it.

    Raises:
        Unauthenticated, Forbidden, TaskNotFound: the request is not to be answered.
        StoreUnavailable: nobody can tell.
    """
    if not need.is_open:
        request.scope[_CALLER] = await request.app.state.services.doorkeeper.admit(request, need)


async def let_in_still(request: Request) -> None:
    """Look once more at who makes a request, whose answer was held back.

    Raises:
        What `let_in` raises: its credential has ended meanwhile.
    """
    await let_in(request, need_of(request.scope["route"].endpoint))


def caller_of(request: Request) -> Caller:
    """Return who makes a request that was let in."""
    return cast(Caller, request.scope[_CALLER])
