"""The caller's trace context (W3C), kept in the task's record so that the worker's spans join the caller's. No I/O."""

import re
from collections.abc import Mapping

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# The specification asks to carry at least this many characters, and lets one drop the rest.
_MAX_TRACESTATE = 512


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `traceparent` and `tracestate` of a request, as far as they are there and well-formed.

    Source: W3C Trace Context: a malformed traceparent is ignored, and the tracestate with it.
    """
    parent = headers.get("traceparent", "").strip()
    if not _TRACEPARENT.fullmatch(parent):
        return {}
    state = headers.get("tracestate", "").strip()
    return {"traceparent": parent} | ({"tracestate": state} if 0 < len(state) <= _MAX_TRACESTATE else {})
