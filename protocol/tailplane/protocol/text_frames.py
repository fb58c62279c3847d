"""How events travel to browsers, curl and other people's programs: SSE and NDJSON. No I/O; needs orjson."""

from collections.abc import Iterator

from tailplane.protocol import codec, json_codec
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.events import Event, Kind, append_events, items_after
from tailplane.protocol.ids import EntryId

SSE_TYPE = "text/event-stream"
NDJSON_TYPE = "application/x-ndjson"

SSE_KEEP_ALIVE = b": keep-alive\n\n"
NDJSON_KEEP_ALIVE = b"\n"


def sse_event(event: Event) -> bytes:
    """Return an event as one SSE message; what the platform says is named by its type, the workflow's has no name."""
    name = f"event: {event.type}\n" if event.kind == Kind.PLATFORM else ""
    return f"id: {event.seq}\n{name}data: ".encode() + json_codec.to_json(event.as_dict()) + b"\n\n"


def sse_entry(entry: EntryId, payload: bytes, after: Cursor) -> bytes:
    """Return the events of a stored payload that follow the cursor `after` as SSE messages."""
    return b"".join(
        [
            b"id: %d\ndata: %b\n\n" % (seq, shown) if isinstance(shown, bytes) else sse_event(shown)
            for seq, shown in _shown(entry, payload, after)
        ]
    )


def ndjson_entry(entry: EntryId, payload: bytes, after: Cursor) -> bytes:
    """Return the events of a stored payload that follow the cursor `after` as lines of JSON."""
    return b"".join(
        [
            shown + b"\n" if isinstance(shown, bytes) else ndjson_event(shown)
            for _, shown in _shown(entry, payload, after)
        ]
    )


def sse_entry_of(task_id: str, entry: EntryId, payload: bytes, after: Cursor) -> bytes:
    """Return what `sse_entry` does, for the stream of a session: each says its task, and has no id of its own."""
    return b"".join(
        [
            (b"event: %b\ndata: %b\n\n" % (name.encode(), envelope)) if name else (b"data: %b\n\n" % envelope)
            for name, envelope in _shown_of(task_id, entry, payload, after)
        ]
    )


def ndjson_entry_of(task_id: str, entry: EntryId, payload: bytes, after: Cursor) -> bytes:
    """Return what `ndjson_entry` does, for the stream of a session: each line says its task."""
    return b"".join([envelope + b"\n" for _, envelope in _shown_of(task_id, entry, payload, after)])


def _shown_of(task_id: str, entry: EntryId, payload: bytes, after: Cursor) -> Iterator[tuple[str, bytes]]:
    """Give the type of what the platform says, or nothing, and the envelope with its task."""
    head = b'{"task_id":"%b",' % task_id.encode()
    for _, shown in _shown(entry, payload, after):
        if isinstance(shown, bytes):
            yield "", head + shown[1:]
        else:
            name = shown.type or "" if shown.kind == Kind.PLATFORM else ""
            yield name, head + json_codec.to_json(shown.as_dict())[1:]


def sse_cursor(cursor: str) -> bytes:
    """Return what lets a browser begin behind all that came before it, in the stream of a session; no message."""
    return b"id: %b\n\n" % cursor.encode()


def ndjson_cursor(cursor: str) -> bytes:
    """Return the line that says the same."""
    return json_codec.to_json({"cursor": cursor}) + b"\n"


def _shown(entry: EntryId, payload: bytes, after: Cursor) -> Iterator[tuple[int, bytes | Event]]:
    """Give the seq of each event, with its envelope as JSON where it is nothing but a time and data: as nearly all are,
    and at half the cost that an `Event` in between would have.
    """
    to_json, attempt = json_codec.to_json, entry.fence
    first, items = items_after(entry, codec.unpack(payload, extensions=True), after)
    for seq, item in enumerate(items, first):
        if len(item) == 2:
            yield seq, to_json({"seq": seq, "attempt": attempt, "time": item[0], "data": item[1]})
        else:
            events: list[Event] = []
            append_events(events, attempt, seq, [item])
            yield seq, events[0]


def sse_retry(milliseconds: int) -> bytes:
    """Return the SSE field that tells a browser how long to wait before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def ndjson_event(event: Event) -> bytes:
    """Return an event as one line of JSON."""
    return json_codec.to_json(event.as_dict()) + b"\n"
