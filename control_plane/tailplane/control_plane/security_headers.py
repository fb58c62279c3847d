"""Headers that every answer bears, whoever makes it: they tell browsers to take it for nothing but data.

One place puts them, where all requests pass (`express.py`); heads that the server writes itself take `RAW_HEADERS`.
What an answer says of its own counts more: streams and listings have a `Cache-Control`, the page for people at `/docs`
needs scripts.
"""

from starlette.types import Message, Scope, Send

HEADERS = {
    # What says JSON is JSON: no browser may find a script in it.
    "x-content-type-options": "nosniff",
    # Answers belong to who has asked, and change.
    "cache-control": "no-store",
    # A task's id, or a token in a URL, is nobody else's business.
    "referrer-policy": "no-referrer",
    # No answer is a page: nothing in it is to be run, loaded or framed.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    # Other sites read answers where CORS lets them, and may not embed them otherwise. Requests by CORS are not held to
    # this header.
    "cross-origin-resource-policy": "same-origin",
}
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

# The page of FastAPI at /docs: its scripts come from this host, and one is in the page.
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"style-src 'unsafe-inline' https://cdn.jsdelivr.net; img-src data: https://fastapi.tiangolo.com; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGES = frozenset({"/docs", "/docs/oauth2-redirect"})
_OF_PAGES = [(name, _PAGE_POLICY if name == b"content-security-policy" else value) for name, value in RAW_HEADERS]


def secure(scope: Scope, send: Send) -> Send:
    """Return a `send` that adds the headers to a response's head, where they are not there."""
    ours = _OF_PAGES if scope["path"] in _PAGES else RAW_HEADERS

    async def send_securely(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = headers = list(message.get("headers", ()))
            add(headers, ours)
        await send(message)

    return send_securely


def add(headers: list[tuple[bytes, bytes]], ours: list[tuple[bytes, bytes]] = RAW_HEADERS) -> None:
    """Add those of ours to a response's headers that are not there."""
    said = {name for name, _ in headers}
    # ASGI has names in lower case.
    headers += [each for each in ours if each[0] not in said]
