"""What a line of the log says of the request that it belongs to: method, route, and the task that the path names.

Nothing is made of a request before something is logged: a busy control plane logs nothing of most.
"""

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from starlette.types import Scope

REQUEST: ContextVar[Scope | None] = ContextVar("tailplane request", default=None)
"""The request that is being served; None: none is, as in background work."""


def add_request(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add to a line what it does not say itself of its request. A processor of structlog."""
    scope = REQUEST.get()
    if scope is not None:
        event.setdefault("method", scope["method"])
        # The template: paths have ids in them, and collectors group by it.
        if path := getattr(scope.get("route"), "path", None):
            event.setdefault("route", path)
        if task_id := scope.get("path_params", {}).get("task_id"):
            event.setdefault("task_id", task_id)
    return event
