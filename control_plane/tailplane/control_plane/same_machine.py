"""Where nobody signs in, programs of this machine may come in, and pages that a browser shows may not.

A page of anybody's can send requests to a loopback address (cross-site requests), and by a name of its own that leads
there even read the answers (DNS rebinding). Both show: the page's Origin, or the Host, is not of this machine.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request

from tailplane.protocol.errors import Forbidden

_HINT = (
    "TAILPLANE_AUTH=keys demands API keys; TAILPLANE_AUTH=none lets everybody in who reaches the port; "
    "TAILPLANE_CORS_ORIGINS names pages that may come in"
)


def is_loopback(host: str) -> bool:
    """Return whether a name or address is one of this machine's own."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_same_machine(request: Request, origins: Collection[str] = ()) -> None:
    """Let a request pass that was sent by a program of this machine.

    Args:
        origins: whose pages may send requests, too.
    Raises:
        Forbidden: a page from elsewhere may have sent it.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if not is_loopback(urlsplit(f"//{host}").hostname or ""):
        raise Forbidden("without API keys this control plane answers by a loopback name only", hint=_HINT)
    if origin is not None and origin not in origins and not is_loopback(_host_of(origin)):
        raise Forbidden("without API keys this control plane answers no page from elsewhere", hint=_HINT)


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""
