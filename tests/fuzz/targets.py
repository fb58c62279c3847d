"""What reads other people's bytes and does no I/O, each with what it promises."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx2
from pydantic import BaseModel

from tailplane.broker import WorkflowRecord
from tailplane.broker.schedules import ScheduleSpec
from tailplane.client.bodies import ChunkedBody
from tailplane.client.decoder import FrameDecoder
from tailplane.client.http1 import head_end, parse_head
from tailplane.client.place import Place
from tailplane.client.problems import error_of
from tailplane.client.session_decoder import SessionDecoder
from tailplane.control_plane import bodies, models, moments, schedule_models
from tailplane.control_plane.answers import prefers_msgpack
from tailplane.control_plane.formats import choose_format
from tailplane.control_plane.same_machine import is_loopback
from tailplane.control_plane.timetable import Timetable, check_cron, find_zone
from tailplane.control_plane.tracing import trace_of
from tailplane.control_plane.validation import InputValidation
from tailplane.protocol import codec, cursor, events, frames, ids, json_codec, redaction, session_cursor, text_frames
from tailplane.protocol.credentials import ApiKey, SignedToken, StreamToken
from tailplane.protocol.errors import InvalidInput, InvalidRequest, TailplaneError, Unauthenticated, Unserialisable
from tailplane.protocol.scopes import Action
from tests.fuzz.mutator import Mutator

TASK = "t_01jd3z0v9m6s8k2x4q7w5e1r0t"
SESSION = "s_01jd3z0v9m6s8k2x4q7w5e1r0t"
CONTAINERS = 1000
_SECRET = b"s" * 32


@dataclass(frozen=True, slots=True)
class Reads:
    """A target made of two functions.

    Attributes:
        seeds: make well-formed inputs.
        reads: takes one; returns whether it was good.
    """

    name: str
    seeds: Callable[[Mutator], Sequence[Callable[[], bytes]]]
    reads: Callable[[bytes, Mutator], bool]

    def make(self, mutator: Mutator) -> bytes:
        """Return an input."""
        return mutator.mutated(self.seeds(mutator))

    def take(self, data: bytes, mutator: Mutator) -> bool:
        """Read it."""
        return self.reads(data, mutator)


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same; what is no number is the same as itself."""
    match left, right:
        case float(), float():
            return left == right or (math.isnan(left) and math.isnan(right))
        case list(), list():
            return len(left) == len(right) and all(map(same, left, right))
        case dict(), dict():
            return len(left) == len(right) and all(map(same, left.values(), right.values()))
        case _:
            return bool(left == right)


def _chosen(*texts: str) -> Callable[[Mutator], list[Callable[[], bytes]]]:
    return lambda mutator: [lambda: mutator.random.choice(texts).encode()]


def _text(data: bytes) -> str:
    # As the server reads headers; the rest as a query has it.
    return data.decode("latin-1") if len(data) % 2 else data.decode("utf-8", "replace")


def _msgpack(data: bytes, _: Mutator) -> bool:
    try:
        value = codec.unpack_foreign(data, CONTAINERS)
    except InvalidRequest:
        return False
    json.loads(json_codec.to_json(value))
    try:
        again = codec.unpack(codec.pack(value))
    except Unserialisable:
        # A level deeper than what may be sent: for what bodies are wrapped in.
        return True
    assert same(value, again)
    return True


def _msgpack_of_ours(data: bytes, _: Mutator) -> bool:
    try:
        value = codec.unpack(data, extensions=True)
    except InvalidRequest:
        return False
    json.loads(json_codec.to_json(value))
    return True


def _json(data: bytes, _: Mutator) -> bool:
    try:
        value = json_codec.from_foreign_json(data, CONTAINERS)
    except InvalidRequest:
        return False
    assert same(value, json_codec.from_json(json_codec.to_json(value)))
    try:
        assert same(value, codec.unpack(codec.pack(value)))
    except Unserialisable:
        return True
    return True


_MODELS = (
    models.Submit,
    models.SendEvent,
    models.SetState,
    models.Cancel,
    models.NewSession,
    schedule_models.NewSchedule,
)


def _body_models(data: bytes, _: Mutator) -> bool:
    try:
        value = codec.unpack_foreign(data, CONTAINERS)
    except InvalidRequest:
        return False
    return sum(_fits(model, value) for model in _MODELS) > 0


def _fits(model: type[BaseModel], value: Any) -> bool:
    try:
        parsed = bodies.parse(model, value)
        if isinstance(parsed, models.Submit):
            parsed.delay_from(int(time.time() * 1000))
    except InvalidRequest as error:
        json.loads(json_codec.to_json(error.problem()))
        return False
    return True


def _body_seeds(mutator: Mutator) -> list[Callable[[], bytes]]:
    forms = [
        {"workflow": "a", "input": mutator.value(2), "delay_ms": 5, "concurrency_key": "k", "metadata": {"a": "b"}},
        {
            "workflow": "a",
            "run_at": mutator.random.choice((1e9, float("nan"), float("inf"), 2**63, "2030-01-01T00:00Z")),
        },
        {"type": "a", "data": mutator.value(2)},
        {"value": mutator.value(2), "version": mutator.random.choice((0, 2**53, 2**63, None))},
        {"reason": "a"},
        {"name": "a", "workflow": "a", "cron": "* * * * *", "time_zone": "UTC", "input": mutator.value(1)},
        {"name": "a", "workflow": "a", "every_ms": 1000, "start_at": datetime(2030, 1, 1, tzinfo=UTC)},
    ]
    return [lambda: codec.pack(mutator.random.choice(forms), check=False)]


_SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 0, "multipleOf": 2},
        "s": {"type": "string", "pattern": "^(a+)+$", "format": "date-time"},
        "l": {"type": "array", "uniqueItems": True, "items": {"anyOf": [{"type": "string"}, {"$ref": "#"}]}},
    },
    "patternProperties": {"^x": {"type": "number"}},
}
_validation = InputValidation()
_workflow = WorkflowRecord("w", "1", "", _SCHEMA, None, 1, None)


def _inputs(data: bytes, _: Mutator) -> bool:
    try:
        _validation.check(_workflow, codec.unpack_foreign(data, CONTAINERS))
    except (InvalidInput, InvalidRequest) as error:
        json.loads(json_codec.to_json(error.problem()))
        return False
    return True


def _input_seeds(mutator: Mutator) -> list[Callable[[], bytes]]:
    value = {"n": mutator.value(0), "s": "a" * 30, "l": [mutator.value(1), {"n": 2}], "x": mutator.value(0)}
    return [lambda: codec.pack(value, check=False), mutator.packed]


def _payload(mutator: Mutator) -> bytes:
    # As `events.pack_event` has it, but that the time is always the same.
    made = []
    for _ in range(mutator.random.randrange(1, 4)):
        meta = mutator.random.choice(([], [{"c": "out"}]))
        try:
            made.append(codec.pack([1.5, mutator.value(2), *meta]))
        except Unserialisable:
            made.append(codec.pack([1.5, None]))
    return events.join_events(made)


def _frame(mutator: Mutator, *, number: int | None = None) -> bytes:
    random = mutator.random
    entry = ids.EntryId(random.choice((0, 1, 2, 127, 128, 2**32)), random.choice((1, 2, 3, 200, 300, 2**40)))
    frame = frames.encode_frame(entry, _payload(mutator))
    return frame if number is None else frames.number_frame(frame, number)


def _frame_seeds(mutator: Mutator) -> list[Callable[[], bytes]]:
    def stream() -> bytes:
        made, seq = [], 0
        for _ in range(mutator.random.randrange(1, 5)):
            payload = _payload(mutator)
            seq += len(codec.unpack(payload))
            made.append(frames.encode_frame(ids.EntryId(1, seq), payload))
        return b"".join([*made, frames.KEEP_ALIVE])

    return [
        lambda: _frame(mutator),
        stream,
        stream,
        lambda: frames.encode_notice({"reconnect_ms": mutator.random.choice((500, -1, 1e308, "x"))}),
    ]


def _stream(data: bytes, mutator: Mutator) -> bool:
    return _feed(FrameDecoder(mutator.random.choice((0, 1, None)), 64 * 1024), data, mutator)


def _session_seeds(mutator: Mutator) -> list[Callable[[], bytes]]:
    number = mutator.random.choice((1, 2, 300))
    notices = [{"task": [number, TASK]}, {"ended": True}, {"cursor": "x"}, {"reconnect_ms": 5}, {"task": [1]}]
    join = frames.encode_notice(notices[0])
    return [
        lambda: join + _frame(mutator, number=number),
        lambda: join + b"".join(_frame(mutator, number=number) for _ in range(3)),
        lambda: frames.encode_notice(mutator.random.choice(notices)),
    ]


def _session_stream(data: bytes, mutator: Mutator) -> bool:
    place = Place(session_cursor.SessionCursor())
    return _feed(SessionDecoder(place, 64 * 1024), data, mutator) and bool(str(place.cursor))


def _feed(decoder: FrameDecoder, data: bytes, mutator: Mutator) -> bool:
    for piece in mutator.pieces(data):
        if decoder.ending is None:
            for batch in decoder.feed(piece):
                assert len(batch) >= 0
    return decoder.ending is None


def _frame_heads(data: bytes, mutator: Mutator) -> bool:
    random = mutator.random
    entry = ids.EntryId(random.choice((0, 127, 128, 2**63 - 1)), random.choice((0, 255, 256, 65535, 65536, 2**63 - 1)))
    assert frames.split_frame(frames.encode_frame(entry, data)) == (entry, data)
    return True


def _shown(data: bytes, mutator: Mutator) -> bool:
    try:
        payload = codec.unpack(data, extensions=True)
        codec.pack(payload, extensions=True)
    except (InvalidRequest, Unserialisable):
        return False
    made = events.join_events([codec.pack([1.0, payload], extensions=True)])
    entry = ids.EntryId(1, 1)
    sse = text_frames.sse_entry(entry, made, 0)
    # One message, whatever is in it: nobody writes a line of the protocol by what they send.
    assert sse.startswith(b"id: 1\ndata: {")
    assert sse.endswith(b"}\n\n")
    assert sse.count(b"\n") == 3
    assert b"\r" not in sse
    assert text_frames.ndjson_entry(entry, made, 0).count(b"\n") == 1
    assert text_frames.sse_entry_of(TASK, entry, made, 0).count(b"\n") == 2
    return mutator is not None


def _cursors(data: bytes, _: Mutator) -> bool:
    try:
        position = cursor.parse_position(_text(data))
    except InvalidRequest:
        return False
    match position:
        case cursor.After(seq):
            assert 0 <= seq <= ids.MAX_SEQ
        case cursor.Last(count):
            assert 0 < count <= ids.MAX_SEQ
    return True


def _session_cursors(data: bytes, _: Mutator) -> bool:
    try:
        found = session_cursor.parse_session_position(_text(data))
    except InvalidRequest:
        return False
    if isinstance(found, session_cursor.SessionCursor):
        assert session_cursor.parse_session_position(str(found)) == found
        assert len(found.open) <= session_cursor.MAX_CHARACTERS
    return True


def _session_cursor_seeds(mutator: Mutator) -> list[Callable[[], bytes]]:
    random = mutator.random
    opened = {random.randrange(1, 2**40): random.choice((0, 1, 2**40)) for _ in range(random.randrange(6))}
    made = session_cursor.SessionCursor(max(opened, default=0), "abcdef" if opened else "", opened)
    return [lambda: str(made).encode(), lambda: b"now"]


_PARSERS = (
    ids.parse_task_id,
    ids.parse_session_id,
    ids.parse_worker_id,
    ids.parse_key_id,
    ids.check_tenant,
    ids.check_workflow_name,
    ids.check_schedule_name,
)


def _ids(data: bytes, _: Mutator) -> bool:
    text, taken = _text(data), False
    for parse in _PARSERS:
        try:
            found = parse(text)
        except InvalidRequest:
            continue
        # What is taken becomes a part of keys, logs and metrics.
        assert found == text
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set(" :{}[]*?/\\\"'")
        taken = True
    return taken


_KEY = ApiKey(ids.KeyId("k_01jd3z0v9m6s8k2x4q7w5e1r0t"), "S" * 43)
_TOKEN = StreamToken("x", "default", _KEY.key_id, ids.TaskId(TASK), frozenset(Action), 2**40)
_TOKEN_TEXT = _TOKEN.sign(_SECRET)


def _credentials(data: bytes, _: Mutator) -> bool:
    text, taken = _text(data), False
    try:
        key = ApiKey.parse(text)
        assert key.text == text
        assert key.secret not in repr(key)
        taken = True
    except Unauthenticated:
        pass
    try:
        token = SignedToken.parse(text)
        # Nothing but the token itself is signed, whatever is changed.
        assert token.is_signed_with(_SECRET) == (text == _TOKEN_TEXT)
        taken = True
    except Unauthenticated:
        pass
    return taken


def _redaction(data: bytes, _: Mutator) -> bool:
    text = data.decode("utf-8", "replace")
    shown: dict[str, Any] = {"event": text, "more": [f" {_KEY.text} {_TOKEN_TEXT} "], text: text}
    redaction.redact_values(shown)
    assert _KEY.secret not in str(shown["more"])
    assert _TOKEN_TEXT.partition(".")[2] not in str(shown["more"])
    # What is around it in a text that somebody else makes does not save it.
    line = redaction.redact(f"{text} {_KEY.text} {text}")
    assert f" {_KEY.text}" not in line
    return True


_SCHEDULE = ScheduleSpec(
    workflow="a",
    input=b"\xc0",
    metadata={},
    cron=None,
    every_ms=None,
    run_at_ms=None,
    time_zone="Europe/Berlin",
    overlap="skip",
    catch_up="latest",
    misfire_grace_ms=1000,
    start_at_ms=None,
    end_at_ms=None,
)


def _cron(data: bytes, _: Mutator) -> bool:
    text = _text(data)
    try:
        check_cron(text)
    except ValueError:
        return False
    now = 1_800_000_000_000
    first = Timetable(replace(_SCHEDULE, cron=text), now).next_after(now)
    assert first is None or first > now
    return True


def _zones(data: bytes, _: Mutator) -> bool:
    try:
        find_zone(_text(data))
    except ValueError:
        return False
    return True


def _moments(data: bytes, _: Mutator) -> bool:
    try:
        seconds = moments._parse(_text(data))
    except ValueError:
        return False
    assert 0 <= seconds < 2**38
    return True


def _headers(data: bytes, _: Mutator) -> bool:
    text = data.decode("latin-1")
    prefers_msgpack(text)
    choose_format(text)
    is_loopback(text)
    for value in trace_of({"traceparent": text, "tracestate": text}).values():
        assert value.isascii()
    return True


def _answer_heads(data: bytes, _: Mutator) -> bool:
    try:
        end = head_end(data)
        if not end:
            return False
        head = parse_head(data[:end])
        body = head.body()
        body.feed(data[end:])
    except httpx2.RemoteProtocolError:
        return False
    assert 100 <= head.status <= 999
    return True


def _chunked(data: bytes, mutator: Mutator) -> bool:
    whole, split = ChunkedBody(), ChunkedBody()
    content = whole.feed(data)
    pieces = b"".join(split.feed(piece) for piece in mutator.pieces(data) if not split.failure)
    # However it is split, it says the same.
    assert whole.is_complete == split.is_complete
    if whole.failure is None and split.failure is None:
        assert content == pieces
        assert len(content) <= len(data)
    return whole.failure is None


def _problems(data: bytes, _: Mutator) -> bool:
    headers = {"retry-after": data[:40].decode("latin-1")}
    error = error_of(429, headers, data, "http://host")
    assert isinstance(error, TailplaneError)
    wait = getattr(error, "retry_after", 0.0)
    assert isinstance(wait, float)
    assert 0 <= wait < math.inf
    json_codec.to_json(error.problem())
    return True


def _problem_seeds(mutator: Mutator) -> list[Callable[[], bytes]]:
    codes = ["queue_full", "too_large", "state_conflict", "task_failed", "event_mismatch", "stream_gap", "nonsense"]

    def document() -> bytes:
        facts = {mutator.text(): mutator.value(1) for _ in range(3)}
        made = {
            "code": mutator.random.choice(codes),
            "detail": mutator.value(1),
            "retry_after": mutator.value(0),
            **facts,
        }
        made |= {"status": mutator.value(0), "hint": mutator.value(0)}
        return json.dumps(made, default=str, skipkeys=True).encode()

    return [document, mutator.json]


_CRON = ("*/5 * * * *", "0 0 L * *", "0 9 * * MON-FRI", "@daily", "0 0 29 2 *", "1,2 3-4 5 6 7")
_MOMENTS = ("2026-12-01T09:00:00Z", "2026-W01-1T00Z", "0001-01-01T00:00:00+23:59")
_SIZED = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
_CODED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
_CHUNKS = ("5\r\nhello\r\n0\r\n\r\n", "1;x=y\r\na\r\n2\r\nbc\r\n0\r\nA: b\r\n\r\n")

TARGETS = (
    Reads("msgpack bodies", lambda m: [m.packed], _msgpack),
    Reads("msgpack of streams", lambda m: [m.packed], _msgpack_of_ours),
    Reads("JSON bodies", lambda m: [m.json], _json),
    Reads("body models", _body_seeds, _body_models),
    Reads("workflow inputs", _input_seeds, _inputs),
    Reads("frames, read by the client", _frame_seeds, _stream),
    Reads("session frames, read by the client", _session_seeds, _session_stream),
    Reads("frame heads", lambda m: [m.packed], _frame_heads),
    Reads("SSE and NDJSON", lambda m: [m.packed], _shown),
    Reads("cursors", _chosen("0", "42", "-10", "start", "now", "9223372036854775807"), _cursors),
    Reads("session cursors", _session_cursor_seeds, _session_cursors),
    Reads("ids and names", _chosen(TASK, SESSION, f"w_{TASK[2:]}", f"k_{TASK[2:]}", "default", "my_workflow"), _ids),
    Reads("API keys and stream tokens", _chosen(_KEY.text, _TOKEN_TEXT), _credentials),
    Reads("redaction", _chosen(_KEY.text, _TOKEN_TEXT, "redis://a:b@c", "token='x'", '{"password": "x"}'), _redaction),
    Reads("cron", _chosen(*_CRON), _cron),
    Reads("time zones", _chosen("Europe/Berlin", "UTC", "../UTC", "posixrules", "Etc/GMT+1"), _zones),
    Reads("moments", _chosen(*_MOMENTS), _moments),
    Reads("request headers", _chosen("application/json;q=0.5, */*", "text/event-stream", "00-" + "a" * 32), _headers),
    Reads("heads, read by the client", _chosen(_SIZED, _CODED), _answer_heads),
    Reads("chunked bodies, read by the client", _chosen(*_CHUNKS), _chunked),
    Reads("problems, read by the client", _problem_seeds, _problems),
)
