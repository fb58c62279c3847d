"""The bytes on the wire, compared with those that are stored beside this file.

A change of a stored file is a change of the protocol: clients and streams of the previous version must still be read.
`UPDATE_GOLDEN=1 pytest tests/golden` writes the files anew.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import orjson
import pytest
from pydantic import BaseModel

from tailplane.protocol import codec, events
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import InvalidInput, StoreUnavailable, TaskGone
from tailplane.protocol.events import (
    Event,
    Kind,
    PlatformType,
    join_events,
    pack_event,
    pack_platform_event,
    unpack_payload,
)
from tailplane.protocol.frames import KEEP_ALIVE, encode_frame, encode_notice, number_frame
from tailplane.protocol.ids import EntryId, KeyId
from tailplane.protocol.session_cursor import SessionCursor, mark_of, parse_session_position
from tailplane.protocol.text_frames import (
    NDJSON_KEEP_ALIVE,
    SSE_KEEP_ALIVE,
    ndjson_cursor,
    ndjson_entry_of,
    ndjson_event,
    sse_cursor,
    sse_entry_of,
    sse_event,
    sse_retry,
)

HERE = Path(__file__).parent / "wire"
NOW = 1700000000.25
ERROR = {"code": "workflow_error", "type": "builtins.ValueError", "message": "no", "traceback": "Traceback ...\n"}

#: What each platform event tells, by PROTOCOL.md 3.4.
PLATFORM: dict[PlatformType, dict[str, object]] = {
    PlatformType.QUEUED: {"workflow": "summarise", "version": "7", "position": 12},
    PlatformType.STARTED: {"worker_id": "w_01", "host": "host-1"},
    PlatformType.RETRYING: {"error": ERROR, "delay_ms": 1000},
    PlatformType.WORKER_LOST: {"worker_id": "w_01"},
    PlatformType.HANDED_BACK: {"worker_id": "w_01"},
    PlatformType.REWIND: {"to": 0, "reason": "failed"},
    PlatformType.GAP: {"from": 1, "to": 9},
    PlatformType.GONE: {"reason": "retention"},
    PlatformType.PROGRESS: {"done": 3, "total": 10, "text": "pages"},
    PlatformType.LOG: {
        "level": "error",
        "logger": "shop.orders",
        "message": "no answer",
        "exception": "Traceback ...\n",
    },
    PlatformType.STEP_STARTED: {"id": "3/0", "step": "fetch", "task_id": "t_02"},
    PlatformType.STEP_RETRYING: {"id": "3/0", "step": "fetch", "error": ERROR, "delay_ms": 1000},
    PlatformType.STEP_FINISHED: {"id": "3/0", "step": "fetch"},
    PlatformType.CHECKPOINT: {"entry": 4},
    PlatformType.WAITING: {"id": "4", "for": "Approval", "until": 1709210000.5},
    PlatformType.RECEIVED: {"id": "4", "step": "Approval", "number": 1, "type": "Approval"},
    PlatformType.PARKED: {},
    PlatformType.SUCCEEDED: {"result": {"words": 3}},
    PlatformType.FAILED: {"error": ERROR},
    PlatformType.CANCELLED: {"reason": None},
    PlatformType.EXPIRED: {"reason": "it did not start in time"},
}


class Invoice(BaseModel):
    id: UUID
    total: Decimal
    scan: bytes
    at: datetime


INVOICE = Invoice(id=UUID(int=7), total=Decimal("1.10"), scan=b"\xff\x00", at=datetime(2024, 2, 29, tzinfo=UTC))
VALUES: dict[str, object] = {
    "nothing": None,
    "text": "grüße \N{GRINNING FACE}\n",
    "numbers": [0, -1, 127, 128, -33, 2**32, 2**64 - 1, -(2**63), 1.5, float("nan"), float("inf")],
    "truths": [True, False],
    "bytes": b"\x00\xff",
    "datetime": datetime(2024, 2, 29, 12, 30, 15, 250000, tzinfo=UTC),
    "nested": {"a": [{"b": ()}, {}], 1: {b"k": None}},
    "model": INVOICE,
}


def entry() -> bytes:
    """An entry that holds all that an event can have."""
    return join_events(
        [
            pack_event("a token"),
            pack_event({"done": 1}, channel="progress", step="load"),
            pack_event(INVOICE),
            pack_platform_event(PlatformType.CANCELLED, {"reason": "enough"}, attempt=2),
        ]
    )


KEY = ApiKey(KeyId("k_01jd3z0v9m6s8k2x4q7w5e1r0t"), "Zm9yIGEgdGVzdCBvbmx5LCBub3QgYSBzZWNyZXQhI-_")
TASKS = ("t_01jd3z0v9m6s8k2x4q7w5e1r0t", "t_01jd3z0v9m6s8k2x4q7w5e1r0v")
CURSOR = SessionCursor(300, mark_of(TASKS[1]), {1: 42, 299: 0, 300: 70_000})


def frames_of_session() -> bytes:
    """What our own client is sent of a session."""
    return b"".join(
        [
            KEEP_ALIVE,
            encode_notice({"task": [1, TASKS[0]]}),
            encode_notice({"task": [300, TASKS[1]]}),
            number_frame(encode_frame(EntryId(3, 42), entry()), 1),
            number_frame(encode_frame(EntryId(0, 1), entry()), 300),
            encode_notice({"ended": True}),
        ]
    )


def entry_events() -> list[Event]:
    return unpack_payload(EntryId(3, 42), entry())


CASES: dict[str, Callable[[], bytes]] = {
    **{f"event-{name}.msgpack": (lambda value=value: pack_event(value)) for name, value in VALUES.items()},
    **{
        f"platform-{type_.value}.msgpack": (lambda type_=type_, data=data: pack_platform_event(type_, data))
        for type_, data in PLATFORM.items()
    },
    "entry.msgpack": entry,
    "entry-of-16.msgpack": lambda: join_events([pack_event(n) for n in range(16)]),
    "frame.msgpack": lambda: encode_frame(EntryId(3, 42), entry()),
    "frames.msgpack": lambda: KEEP_ALIVE + encode_frame(EntryId(0, 1), entry()) + encode_notice({"reconnect_ms": 500}),
    "messages.sse": lambda: SSE_KEEP_ALIVE + b"".join(sse_event(event) for event in entry_events()) + sse_retry(500),
    "lines.ndjson": lambda: NDJSON_KEEP_ALIVE + b"".join(ndjson_event(event) for event in entry_events()),
    "session-frames.msgpack": frames_of_session,
    "session-messages.sse": lambda: sse_entry_of(TASKS[0], EntryId(3, 42), entry(), 39) + sse_cursor(str(CURSOR)),
    "session-lines.ndjson": lambda: ndjson_entry_of(TASKS[0], EntryId(3, 42), entry(), 39) + ndjson_cursor(str(CURSOR)),
    "session-cursor.txt": lambda: str(CURSOR).encode(),
    **{
        f"values-{name}.json": (lambda value=value: ndjson_event(Event(1, 1, NOW, codec.unpack(codec.pack(value)))))
        for name, value in VALUES.items()
    },
    # What is kept of a key must fit the keys that are out there.
    "api-key.txt": f"{KEY.text}\n{KEY.digest.hex()}\n".encode,
    "problem-invalid-input.json": lambda: orjson.dumps(
        InvalidInput("n: not an int", hint="send an int", errors=[{"loc": ["n"], "msg": "not an int"}]).problem()
    ),
    "problem-task-gone.json": lambda: orjson.dumps(TaskGone("it was removed", task_id="t_01").problem()),
    "problem-store-unavailable.json": lambda: orjson.dumps(StoreUnavailable("away", retry_after=2.0).problem()),
}


@pytest.fixture(autouse=True)
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "now", lambda: NOW)


@pytest.mark.parametrize("name", CASES)
def test_the_bytes_are_those_that_are_stored(name: str) -> None:
    made, stored = CASES[name](), HERE / name
    if os.environ.get("UPDATE_GOLDEN"):
        HERE.mkdir(exist_ok=True)
        stored.write_bytes(made)
    assert made == stored.read_bytes()


def test_nothing_is_stored_that_is_not_compared() -> None:
    assert sorted(path.name for path in HERE.iterdir()) == sorted(CASES)


def test_each_platform_event_is_stored() -> None:
    assert set(PLATFORM) == set(PlatformType)


def test_a_stored_key_is_read_and_fits_what_was_kept_of_it() -> None:
    text, digest = (HERE / "api-key.txt").read_text().split()
    assert ApiKey.parse(text) == KEY
    assert ApiKey.parse(text).digest.hex() == digest


def test_a_stored_cursor_is_read_as_what_was_seen() -> None:
    assert parse_session_position((HERE / "session-cursor.txt").read_text()) == CURSOR


def test_a_stored_entry_is_read_as_what_was_written() -> None:
    stored = (HERE / "entry.msgpack").read_bytes()
    invoice = {"id": str(INVOICE.id), "total": "1.10", "scan": b"\xff\x00", "at": INVOICE.at}
    assert unpack_payload(EntryId(3, 42), stored) == [
        Event(39, 3, NOW, "a token"),
        Event(40, 3, NOW, {"done": 1}, channel="progress", step="load"),
        Event(41, 3, NOW, invoice, type="Invoice"),
        Event(42, 2, NOW, {"reason": "enough"}, type="task.cancelled", kind=Kind.PLATFORM),
    ]


@pytest.mark.parametrize("type_", PlatformType)
def test_a_stored_platform_event_is_read_as_what_was_said(type_: PlatformType) -> None:
    stored = (HERE / f"platform-{type_.value}.msgpack").read_bytes()
    (event,) = unpack_payload(EntryId(1, 2), join_events([stored]))
    assert event == Event(2, 1, NOW, PLATFORM[type_], type=type_.value, kind=Kind.PLATFORM)
