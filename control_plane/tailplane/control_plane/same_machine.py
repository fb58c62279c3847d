"""Where nobody signs in, programs of this machine may come in, and pages that a browser shows may not.

A page of anybody's can send requests to a loopback address (cross-site requests), and by a name of its own that leads
there even read the answers (DNS rebinding). Both show: the page's Origin, or the Host, is not of this machine.
"""

import re
from collections.abc import Collection

from starlette.requests import Request

from tailplane.protocol.errors import Forbidden
from tailplane.protocol.urls import is_loopback

# As RFC 9110 has it, and nothing beside it: whatever else a parser of URLs would make of it.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://" + _HOST.pattern)
_HINT = (
    "TAILPLANE_AUTH=keys demands API keys; TAILPLANE_AUTH=none lets everybody in who reaches the port; "
    "TAILPLANE_CORS_ORIGINS names pages that may come in"
)


def check_same_machine(request: Request, origins: Collection[str] = ()) -> None:
    """Let a request pass that was sent by a program of this machine.

    Args:
        origins: whose pages may send requests, too.
    Raises:
        Forbidden: a page from elsewhere may have sent it.
    """
    host, origin = _HOST.fullmatch(request.headers.get("host", "")), request.headers.get("origin")
    if host is None or not is_loopback(host[1]):
        raise Forbidden("without API keys this control plane answers by a loopback name only", hint=_HINT)
    if origin is None or origin in origins:
        return
    if (page := _ORIGIN.fullmatch(origin)) is None or not is_loopback(page[1]):
        raise Forbidden("without API keys this control plane answers no page from elsewhere", hint=_HINT)
