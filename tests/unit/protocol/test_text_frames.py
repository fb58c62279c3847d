"""SSE and NDJSON: one message an event, whatever the event holds."""

import json

import pytest
from hypothesis import given

from tailplane.protocol import codec, json_codec
from tailplane.protocol.events import Event, Kind, PlatformType
from tailplane.protocol.text_frames import (
    NDJSON_KEEP_ALIVE,
    SSE_KEEP_ALIVE,
    ndjson_event,
    sse_event,
    sse_retry,
)

from .strategies import values


def parse_sse(raw: bytes) -> list[dict[str, str]]:
    """Return the messages of a stream, read as the standard says: a blank line ends one, comments are none."""
    messages = []
    for block in raw.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = fields.get(name, "") + value.removeprefix(" ")
        messages.append(fields)
    return [fields for fields in messages if fields]


@given(values)
def test_an_event_is_one_sse_message_whatever_it_holds(value: object) -> None:
    event = Event(7, 1, 1.5, codec.unpack(codec.pack(value)))
    raw = sse_event(event)
    assert (
        parse_sse(raw + SSE_KEEP_ALIVE + raw) == [{"id": "7", "data": json_codec.to_json(event.as_dict()).decode()}] * 2
    )


@given(values)
def test_an_event_is_one_line_of_ndjson_whatever_it_holds(value: object) -> None:
    event = Event(7, 1, 1.5, codec.unpack(codec.pack(value)))
    raw = ndjson_event(event) + NDJSON_KEEP_ALIVE
    assert raw.count(b"\n") == 2
    assert json.loads(raw)["seq"] == 7


@pytest.mark.parametrize("type_", PlatformType)
def test_what_the_platform_says_is_named_so_that_onmessage_does_not_see_it(type_: PlatformType) -> None:
    (message,) = parse_sse(sse_event(Event(1, 0, 0.0, {}, type=type_, kind=Kind.PLATFORM)))
    assert message["event"] == type_.value


def test_a_workflow_s_event_has_no_name_even_if_it_has_a_type() -> None:
    (message,) = parse_sse(sse_event(Event(1, 0, 0.0, {}, type="evil\nid: 99")))
    assert sorted(message) == ["data", "id"]
    assert message["id"] == "1"


def test_keep_alives_and_hints_are_no_messages() -> None:
    assert parse_sse(SSE_KEEP_ALIVE) == []
    assert parse_sse(sse_retry(1500)) == [{"retry": "1500"}]
