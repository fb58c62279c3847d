"""From an HTTP answer that says no, or none at all, to an error of `tailplane.protocol.errors`. No I/O."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tailplane.protocol.errors import LONGEST_WAIT, ConnectionLost, TailplaneError, Unavailable, from_problem

# Asking again later can help: a control plane that restarts, drains or is busy, or a proxy that finds none.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def error_of(status: int, headers: Mapping[str, str], body: bytes, url: str) -> TailplaneError:
    """Return the error that an answer stands for.

    Args:
        status: the answer's HTTP status.
        headers: its headers; names in lower case, or a mapping that does not mind.
        body: a problem document, or whatever a proxy on the way has to say.
        url: what was asked, for the message.
    """
    document = _document(body)
    if "code" not in document:
        # Not from a control plane: say what answered, or a wrong URL looks like a missing task.
        said = body[:200].decode(errors="replace").strip()
        document = {
            "detail": f"{url} answered {status}" + (f": {said}" if said else ""),
            "hint": "the answer does not come from a Tailplane control plane; check the URL and the proxies on the way",
        }
    error = from_problem(document | {"status": status})
    after = retry_after(headers.get("retry-after"), datetime.now(UTC))
    # The header counts whole seconds. Where it rounds up what the document says, that is exact, and has the jitter.
    if isinstance(error, Unavailable) and after is not None and not 0 <= after - error.retry_after < 1:
        error.retry_after = after
    return error


def retry_after(text: str | None, now: datetime) -> float | None:
    """Return what `Retry-After` asks to wait, in seconds; None where it is absent or can't be understood."""
    if not text:
        return None
    # Not all that `strip` takes off does `float`.
    if (digits := text.strip()).isdecimal():
        return min(float(digits), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    wait = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    return max(0.0, min(wait, LONGEST_WAIT))


def with_hint(error: ConnectionLost, hint: str | None) -> ConnectionLost:
    """Return the error with a hint that a plain traceback shows, too; not as part of its text, which others print."""
    error.hint = hint
    if hint:
        error.add_note(f"hint: {hint}")
    return error
