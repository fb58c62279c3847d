"""How events travel to browsers, curl and other people's programs: SSE and NDJSON. No I/O; needs orjson."""

from tailplane.protocol import json_codec
from tailplane.protocol.events import Event, Kind

SSE_TYPE = "text/event-stream"
NDJSON_TYPE = "application/x-ndjson"

SSE_KEEP_ALIVE = b": keep-alive\n\n"
NDJSON_KEEP_ALIVE = b"\n"


def sse_event(event: Event) -> bytes:
    """Return an event as one SSE message; what the platform says is named by its type, the workflow's has no name."""
    name = f"event: {event.type}\n" if event.kind == Kind.PLATFORM else ""
    return f"id: {event.seq}\n{name}data: ".encode() + json_codec.to_json(event.as_dict()) + b"\n\n"


def sse_retry(milliseconds: int) -> bytes:
    """Return the SSE field that tells a browser how long to wait before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def ndjson_event(event: Event) -> bytes:
    """Return an event as one line of JSON."""
    return json_codec.to_json(event.as_dict()) + b"\n"
