"""The stream of a session, over real sockets, through everything that goes wrong there."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from tailplane.client import (
    Client,
    ConnectionLost,
    CursorPastEnd,
    EventMismatch,
    InvalidCursor,
    SessionNotFound,
    SessionStream,
    StreamGap,
    StreamMalformed,
)
from tailplane.client.models import SessionInfo
from tailplane.client.session import Session
from tailplane.protocol.events import join_events, pack_event, pack_gap, pack_gone
from tailplane.protocol.frames import encode_frame, encode_notice, number_frame
from tailplane.protocol.ids import EntryId
from tailplane.protocol.session_cursor import SessionCursor, parse_session_position

pytestmark = pytest.mark.anyio

A, B, C = "t_aaaaaa", "t_bbbbbb", "t_cccccc"
ENDED = encode_notice({"ended": True})


def task(number: int, task_id: str) -> bytes:
    return encode_notice({"task": [number, task_id]})


def of(number: int, frame: bytes) -> bytes:
    return number_frame(frame, number)


def stream_of(client: Client, start: str = "start") -> SessionStream:
    return Session(client._link, SessionInfo(session_id="s_1", created_at=1.0, closed=False)).events(start)


def seen(events: list[Any]) -> list[tuple[str, int]]:
    return [(each.task_id, each.event.seq) for each in events]


def asked(server: Any) -> list[Any]:
    return [parse_session_position(request.query["from"]) for request in server.requests]


async def test_the_events_of_all_tasks_come_and_the_end_ends_it(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(
            task(1, A),
            of(1, wire.entry(2, "a", "b")),
            task(2, B),
            of(2, wire.entry(1, "c")),
            of(1, wire.succeeded(3)),
            wire.keep_alive,
            of(2, wire.succeeded(2)),
            ENDED,
        )
    )
    stream = stream_of(client)
    events = await wire.collect(stream)
    assert seen(events) == [(A, 1), (A, 2), (B, 1), (A, 3), (B, 2)]
    assert events[0].as_dict()["task_id"] == A
    assert parse_session_position(stream.cursor) == SessionCursor(2, B[-6:], {})
    assert await wire.collect(stream) == []
    (request,) = server.requests
    assert (request.path, request.query) == ("/v1/sessions/s_1/events", {"from": "start"})


async def test_a_lost_connection_goes_on_where_it_was(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(task(1, A), task(2, B), of(2, wire.entry(2, "a", "b")), of(1, wire.succeeded(1))),
        wire.streams(task(2, B), of(2, wire.entry(3, "a", "b", "c")), task(5, C), of(5, wire.entry(1, "d"))),
        wire.streams(task(2, B), task(5, C), of(5, wire.succeeded(2)), of(2, wire.succeeded(4)), ENDED),
    )
    assert seen(await wire.collect(stream_of(client))) == [
        (B, 1), (B, 2), (A, 1), (B, 3), (C, 1), (C, 2), (B, 4),
    ]  # fmt: skip
    assert asked(server) == [
        SessionCursor(),
        SessionCursor(2, B[-6:], {2: 2}),
        SessionCursor(5, C[-6:], {2: 3, 5: 1}),
    ]


async def test_the_consumer_s_cursor_is_what_was_taken_out(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(task(1, A), task(2, B), of(2, wire.entry(3, "a", "b", "c")), of(1, wire.succeeded(1)), ENDED)
    )
    stream = stream_of(client)
    cursors = []
    async for _ in stream:
        cursors.append(parse_session_position(stream.cursor))
    assert cursors == [
        SessionCursor(2, B[-6:], {1: 0, 2: 1}),
        SessionCursor(2, B[-6:], {1: 0, 2: 2}),
        SessionCursor(2, B[-6:], {1: 0, 2: 3}),
        SessionCursor(2, B[-6:], {2: 3}),
    ]


async def test_now_begins_where_the_control_plane_says(server: Any, client: Client, wire: Any) -> None:
    begins = SessionCursor(7, A[-6:], {7: 40})

    async def lose(exchange: Any) -> None:
        await exchange.start_stream(Tailplane_Cursor=str(begins))
        await exchange.cut()

    server.play(lose, wire.streams(task(7, A), of(7, wire.entry(41, "a")), of(7, wire.succeeded(42)), ENDED))
    stream = stream_of(client, "now")
    assert stream.cursor == "now"
    assert seen(await wire.collect(stream)) == [(A, 41), (A, 42)]
    assert server.requests[0].query == {"from": "now"}
    assert asked(server)[1] == begins


async def test_204_is_the_end(server: Any, client: Client, wire: Any) -> None:
    cursor = str(SessionCursor(7, A[-6:], {}))

    async def nothing(exchange: Any) -> None:
        await exchange._respond(204, "text/plain", b"", None)

    server.play(nothing)
    assert await wire.collect(stream_of(client, cursor)) == []


async def test_a_drain_sends_it_elsewhere(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(task(1, A), of(1, wire.entry(1, "a")), wire.notice(reconnect_ms=1)),
        wire.streams(task(1, A), of(1, wire.succeeded(2)), ENDED),
    )
    assert seen(await wire.collect(stream_of(client))) == [(A, 1), (A, 2)]


async def test_a_task_that_is_gone_is_told_of_and_not_asked_for_again(server: Any, client: Client, wire: Any) -> None:
    gone = encode_frame(EntryId(0, 3), pack_gone())
    server.play(
        wire.streams(task(1, A), of(1, wire.entry(2, "a", "b")), of(1, gone)),
        wire.streams(ENDED),
    )
    events = await wire.collect(stream_of(client))
    assert [(each.event.seq, each.event.type) for each in events] == [(1, None), (2, None), (3, "task.gone")]
    assert asked(server)[1] == SessionCursor(1, A[-6:], {})


async def test_a_gap_is_shown_and_a_hole_read_again(server: Any, client: Client, wire: Any) -> None:
    gap = encode_frame(EntryId(1, 4), pack_gap(1, 4))
    hole = wire.streams(task(1, A), of(1, wire.entry(7, "g")))
    server.play(wire.streams(task(1, A), of(1, gap), of(1, wire.entry(5, "e"))), hole, hole)
    stream = stream_of(client)
    got = [await anext(stream), await anext(stream)]
    assert [(each.event.seq, each.event.type) for each in got] == [(4, "task.gap"), (5, None)]
    with pytest.raises(StreamGap):
        await anext(stream)


@pytest.mark.parametrize(
    "raw",
    [
        of(9, encode_frame(EntryId(1, 1), join_events([pack_event("nobody's")]))),
        task(1, A) + encode_frame(EntryId(1, 1), join_events([pack_event("without a number")])),
        task(1, A) + task(1, B),
        encode_notice({"task": 3}),
    ],
    ids=["a number that nobody told", "no number", "a number of two tasks", "a notice of another shape"],
)
async def test_nonsense_is_read_again_and_then_told(server: Any, client: Client, wire: Any, raw: bytes) -> None:
    server.play(*[wire.streams(raw)] * 3)
    with pytest.raises(StreamMalformed):
        await wire.collect(stream_of(client))


class Page(BaseModel):
    number: int


async def test_models_come_back_and_a_mismatch_leaves_the_stream_where_it_is(server: Any, wire: Any) -> None:
    server.play(
        wire.streams(
            task(1, A),
            of(1, wire.entry(1, Page(number=3))),
            of(1, wire.entry(2, create_model("Page", number=(str, ...))(number="x"))),
            of(1, wire.succeeded(3)),
            ENDED,
        )
    )
    async with Client(server.url, options=wire.options(), event_models=[Page]) as client:
        stream = stream_of(client)
        assert (await anext(stream)).event.data == Page(number=3)
        with pytest.raises(EventMismatch):
            await anext(stream)
        assert seen(await wire.collect(stream)) == [(A, 3)]


@pytest.mark.parametrize(
    ("status", "code", "error"), [(404, "session_not_found", SessionNotFound), (416, "cursor_past_end", CursorPastEnd)]
)
async def test_what_can_t_be_read_is_raised(
    server: Any, client: Client, wire: Any, status: int, code: str, error: type[Exception]
) -> None:
    server.play(wire.refuses(status, code))
    with pytest.raises(error):
        await wire.collect(stream_of(client))


@pytest.mark.parametrize("start", ["7", "-3", "x", ""])
async def test_what_is_no_cursor_is_refused_at_once(client: Client, start: str) -> None:
    with pytest.raises(InvalidCursor):
        stream_of(client, start)


async def test_closed_it_raises_what_it_is(server: Any, client: Client, wire: Any) -> None:
    async def hang(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.client_leaves()

    server.play(hang)
    stream = stream_of(client)
    waiting = asyncio.ensure_future(anext(stream))
    while not server.requests:
        await asyncio.sleep(0.001)
    await stream.aclose()
    with pytest.raises(ConnectionLost, match="s_1"):
        await waiting


async def test_a_session_is_found_by_its_id(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(wire.session | {"metadata": {"user": "7"}}))
    session = await client.session("s_1")
    assert (session.session_id, session.metadata) == ("s_1", {"user": "7"})
