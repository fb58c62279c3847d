"""Pages of other origins: which of them browsers let read our answers (CORS).

Origins are allowed by name. Credentials are sent in a header or in a stream's query by the page itself, never by the
browser of its own accord: no cookie, and nothing that another page could make it send.
"""

import re

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Scope

_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_ALLOWED_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID", "Prefer", "traceparent",
    "tracestate",
)  # fmt: skip
# Beside those that browsers show anyway, such as Content-Type.
_SHOWN_HEADERS = (
    "ETag", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After", "Tailplane-Cursor",
    "Tailplane-Keep-Alive-Ms", "Tailplane-Session-Id", "Tailplane-Task-Id",
)  # fmt: skip
# Seconds for which a browser need not ask again; Chromium takes no more than two hours.
_MAX_AGE = 7200


def parse_origins(text: str) -> frozenset[str]:
    """Return the origins of a list with commas, as browsers write them: in lower case, without a default port.

    Raises:
        ValueError: one of them is none.
    """
    return frozenset(_parse_origin(each.strip()) for each in text.split(",") if each.strip())


def _parse_origin(text: str) -> str:
    if text == "*":
        raise ValueError("name the origins: `*` would let any page on the net read what its visitors can reach")
    origin = text.lower()
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{text[:80]!r} is no origin: one looks like https://app.example, without a path or a slash")
    return origin.removesuffix(_DEFAULT_PORTS[origin.partition(":")[0]])


def with_cors(app: ASGIApp, origins: frozenset[str]) -> ASGIApp:
    """Return `app`, whose answers pages of these origins may read. Preflights are answered without it."""
    return CORSMiddleware(
        app,
        allow_origins=sorted(origins),
        allow_methods=_METHODS,
        allow_headers=_ALLOWED_HEADERS,
        expose_headers=_SHOWN_HEADERS,
        max_age=_MAX_AGE,
    )


def is_of_page(scope: Scope) -> bool:
    """Whether a browser says which page has sent a request."""
    return any(name == b"origin" for name, _ in scope["headers"])
