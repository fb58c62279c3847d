"""Reading streams over real sockets, through everything that goes wrong there."""

import asyncio
import gc
import logging
import traceback
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from tailplane.client import (
    Client,
    ConnectionLost,
    CursorPastEnd,
    EventMismatch,
    InvalidCursor,
    ReconnectPolicy,
    StreamGap,
    StreamMalformed,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    Unavailable,
)
from tailplane.protocol.events import PlatformType, join_events, pack_event, pack_gap
from tailplane.protocol.frames import encode_frame
from tailplane.protocol.ids import EntryId

pytestmark = pytest.mark.anyio


class Progress(BaseModel):
    done: int


def cursors(server: Any) -> list[str]:
    return [request.query["from"] for request in server.requests]


async def test_the_stream_yields_what_was_written_and_ends_with_the_task(
    server: Any, client: Client, wire: Any
) -> None:
    server.play(
        wire.streams(
            wire.platform(1, PlatformType.QUEUED, {}),
            wire.platform(2, PlatformType.STARTED, {}),
            wire.entry(5, "a", {"b": [1, b"x"]}, None),
            wire.keep_alive,
            wire.succeeded(6, "done"),
        )
    )
    stream = client.get_task_result_stream("t_1")

    assert await wire.collect(stream) == ["a", {"b": [1, b"x"]}, None]
    assert stream.cursor == 6
    assert await wire.collect(stream) == []
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/v1/tasks/t_1/events")
    assert request.headers["accept"] == "application/vnd.tailplane.frames+msgpack"
    assert request.headers["accept-encoding"] == "identity"
    assert request.query == {"from": "0"}


async def test_a_failed_task_raises_after_its_last_event_and_at_each_further_try(
    server: Any, client: Client, wire: Any
) -> None:
    error = {"code": "workflow_error", "type": "builtins.ValueError", "message": "bad", "traceback": "line 1"}
    server.play(wire.streams(wire.entry(1, "a"), wire.platform(2, PlatformType.FAILED, {"error": error})))
    stream = client.get_task_result_stream("t_1")

    assert await anext(stream) == "a"
    for _ in range(2):
        with pytest.raises(TaskFailed, match="bad") as caught:
            await anext(stream)
    assert (caught.value.error_type, caught.value.remote_traceback) == ("builtins.ValueError", "line 1")


async def test_envelopes_show_the_platform_and_the_end_without_raising(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(
            wire.platform(1, PlatformType.QUEUED, {}),
            wire.entry(2, "a"),
            wire.platform(3, PlatformType.CANCELLED, {"reason": "no"}),
        )
    )

    events = await wire.collect(client.task("t_1").events())

    assert [(event.seq, event.type) for event in events] == [(1, "task.queued"), (2, None), (3, "task.cancelled")]


async def test_envelopes_without_the_platform_raise_how_the_task_ended(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(
            wire.platform(1, PlatformType.QUEUED, {}),
            wire.entry(2, "a"),
            wire.platform(3, PlatformType.CANCELLED, {"reason": "no"}),
        )
    )
    stream = client.task("t_1").events(include_platform=False)

    assert (await anext(stream)).data == "a"
    with pytest.raises(TaskCancelled, match="no"):
        await anext(stream)


async def test_typed_events_become_models_and_a_mismatch_loses_nothing(server: Any, wire: Any) -> None:
    other_version = create_model("Progress", done=(str, ...))
    good, bad = pack_event(Progress(done=1)), pack_event(other_version(done="x"))
    entry = encode_frame(EntryId(1, 4), join_events([good, bad, good, pack_event("plain")]))
    server.play(wire.streams(entry, wire.succeeded(5)), wire.streams(entry, wire.succeeded(5)))

    async with Client(server.url, event_models=[Progress]) as client:
        stream = client.get_task_result_stream("t_1")
        assert await anext(stream) == Progress(done=1)
        with pytest.raises(EventMismatch) as caught:
            await anext(stream)
        assert (caught.value.event.seq, caught.value.event.data) == (2, {"done": "x"})
        assert await wire.collect(stream) == [Progress(done=1), "plain"]

        view = client.get_task_result_stream("t_1").coalesce(0)
        assert await anext(view) == [Progress(done=1)]
        with pytest.raises(EventMismatch):
            await anext(view)
        assert await wire.collect(view) == [[Progress(done=1), "plain"]]


async def test_a_gap_raises_in_its_place_and_the_stream_goes_on(server: Any, wire: Any) -> None:
    entries = wire.entry(1, "a") + encode_frame(EntryId(1, 7), pack_gap(2, 7)) + wire.entry(8, "h")
    server.play(*[wire.streams(entries, wire.succeeded(9))] * 3)

    async with Client(server.url) as client:
        stream = client.get_task_result_stream("t_1")
        assert await anext(stream) == "a"
        with pytest.raises(StreamGap, match="events 2 to 7") as caught:
            await anext(stream)
        assert (caught.value.last_seq, caught.value.next_seq, stream.cursor) == (1, 8, 7)
        assert await wire.collect(stream) == ["h"]

        taken = client.get_task_result_stream("t_1")
        assert await taken.take() == ["a"]
        with pytest.raises(StreamGap):
            await taken.take()
        assert await taken.take() == ["h"]

        told = [event.type or event.data async for event in client.task("t_1").events()]
        assert told == ["a", "task.gap", "h", "task.succeeded"]


async def test_a_connection_cut_in_the_middle_of_a_frame_loses_and_repeats_nothing(
    server: Any, client: Client, wire: Any
) -> None:
    second = wire.entry(3, "b", "c")

    async def cut(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(1, "a"), second[:-3])
        await exchange.cut()

    server.play(cut, wire.streams(second, wire.succeeded(4)))

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b", "c"]
    assert cursors(server) == ["0", "1"]
    assert server.requests[1].headers["last-event-id"] == "1"


async def test_an_end_without_a_terminal_event_is_not_the_end(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.streams(wire.entry(1, "a")), wire.streams(), wire.streams(wire.entry(2, "b"), wire.succeeded(3)))

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b"]
    assert cursors(server) == ["0", "1", "1"]


async def test_a_reset_connection_is_taken_up_again(server: Any, client: Client, wire: Any) -> None:
    async def reset(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(1, "a"))
        await exchange.reset()

    server.play(reset, wire.streams(wire.entry(1, "a"), wire.entry(2, "b"), wire.succeeded(3)))

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b"]


async def test_entries_that_come_again_whole_are_seen_once(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(wire.entry(2, "a", "b")),
        wire.streams(wire.entry(2, "a", "b"), wire.entry(4, "c", "d")),
        wire.streams(wire.entry(5, "b", "c", "d", "e"), wire.succeeded(6)),
    )

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b", "c", "d", "e"]


async def test_a_silent_connection_is_given_up_and_taken_up_again(server: Any, client: Client, wire: Any) -> None:
    left = asyncio.Event()

    async def stall(exchange: Any) -> None:
        await exchange.start_stream(keep_alive_ms=30)
        await exchange.send(wire.entry(1, "a"))
        await exchange.client_leaves()
        left.set()

    server.play(stall, wire.streams(wire.entry(2, "b"), wire.succeeded(3)))

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b"]
    await asyncio.wait_for(left.wait(), wire.patience_s)


async def test_a_connection_without_a_byte_after_its_head_is_given_up(server: Any, client: Client, wire: Any) -> None:
    async def stall(exchange: Any) -> None:
        exchange._writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.tailplane.frames+msgpack\r\n"
            b"Tailplane-Keep-Alive-Ms: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await exchange.client_leaves()

    server.play(stall, wire.streams(wire.succeeded(1)))
    clock = asyncio.get_running_loop().time

    begin = clock()
    assert await wire.collect(client.get_task_result_stream("t_1")) == []
    assert clock() - begin < 5  # far below the 15 s in which a head must come


async def test_keep_alives_hold_an_idle_connection(server: Any, client: Client, wire: Any) -> None:
    clock, pauses = asyncio.get_running_loop().time, list[float]()

    async def idle(exchange: Any) -> None:
        await exchange.start_stream(keep_alive_ms=200)
        for _ in range(10):
            begin = clock()
            await asyncio.sleep(0.1)  # in sum well over the 600 ms after which silence means death
            pauses.append(clock() - begin)
            await exchange.send(wire.keep_alive)
        await exchange.send(wire.succeeded(1))
        await exchange.end()

    server.play(*[idle] * 10)

    assert await wire.collect(client.get_task_result_stream("t_1")) == []
    # A machine that stood still makes a silence of its own: each other connection must have been held.
    assert len(server.requests) - 1 <= sum(pause > 0.3 for pause in pauses)


async def test_a_hole_that_heals_is_not_seen(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(wire.entry(1, "a"), wire.entry(3, "c")),
        wire.streams(wire.entry(2, "b"), wire.entry(3, "c"), wire.succeeded(4)),
    )

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b", "c"]
    assert cursors(server) == ["0", "1"]


async def test_a_hole_that_stays_is_told_and_never_skipped(server: Any, client: Client, wire: Any) -> None:
    broken = wire.streams(wire.entry(1, "a"), wire.entry(3, "c"), wire.succeeded(4))
    server.play(broken, broken)
    stream = client.get_task_result_stream("t_1")

    assert await anext(stream) == "a"
    with pytest.raises(StreamGap) as caught:
        await anext(stream)
    assert (caught.value.last_seq, caught.value.next_seq) == (1, 3)
    assert stream.cursor == 1


async def test_garbage_is_read_again_and_then_told(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.streams(wire.entry(1, "a"), b"\xc1"), *[wire.streams(b"\xc1")] * 2)
    stream = client.get_task_result_stream("t_1")

    assert await anext(stream) == "a"
    with pytest.raises(StreamMalformed):
        await anext(stream)
    assert cursors(server) == ["0", "1", "1"]


async def test_a_page_of_a_proxy_is_not_taken_for_a_stream(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers("please log in"), wire.streams(wire.succeeded(1)))

    assert await wire.collect(client.get_task_result_stream("t_1")) == []


async def test_refusals_that_pass_are_waited_out(server: Any, client: Client, wire: Any) -> None:
    at_once = {"Retry-After": "0"}
    server.play(
        wire.refuses(503, "store_unavailable", at_once),
        wire.refuses(502, headers=at_once),
        wire.refuses(429, "queue_full", retry_after=0),
        wire.refuses(504, headers=at_once),
        wire.streams(wire.entry(1, "a"), wire.succeeded(2)),
    )

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a"]


async def test_retry_after_is_honoured(server: Any, client: Client, wire: Any) -> None:
    clock = asyncio.get_running_loop().time
    server.play(wire.refuses(503, "store_unavailable", {"Retry-After": "1"}), wire.streams(wire.succeeded(1)))

    begin = clock()
    await wire.collect(client.get_task_result_stream("t_1"))

    assert clock() - begin >= 0.99


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "task_not_found", TaskNotFound),
        (416, "cursor_past_end", CursorPastEnd),
        (422, "invalid_cursor", InvalidCursor),
    ],
)
async def test_refusals_that_stay_are_raised_at_once(
    server: Any, client: Client, wire: Any, status: int, code: str, error: type[Exception]
) -> None:
    server.play(wire.refuses(status, code))

    with pytest.raises(error):
        await wire.collect(client.get_task_result_stream("t_1"))


async def test_a_tail_that_the_store_lost_is_told(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.streams(wire.entry(2, "a", "b")), wire.refuses(416, "cursor_past_end"))
    stream = client.get_task_result_stream("t_1")

    assert [await anext(stream), await anext(stream)] == ["a", "b"]
    with pytest.raises(CursorPastEnd):
        await anext(stream)


async def test_a_drain_hint_is_followed(server: Any, client: Client, wire: Any) -> None:
    server.play(
        wire.streams(wire.entry(1, "a"), wire.notice(reconnect_ms=1)),
        wire.streams(wire.entry(2, "b"), wire.succeeded(3)),
    )

    assert await wire.collect(client.get_task_result_stream("t_1")) == ["a", "b"]


async def test_reading_gives_up_after_the_time_without_progress(server: Any, wire: Any) -> None:
    policy = ReconnectPolicy(
        base=timedelta(milliseconds=1), cap=timedelta(milliseconds=5), give_up_after=timedelta(milliseconds=100)
    )
    await server.stop()

    async with Client(server.url, options=wire.options(reconnect=policy)) as client:
        with pytest.raises(ConnectionLost, match=r"no progress for 0\.1 s"):
            await wire.collect(client.get_task_result_stream("t_1"))


async def test_a_stream_that_finds_nobody_warns_once_and_ends_in_one_error_with_a_hint(
    wire: Any, caplog: pytest.LogCaptureFixture
) -> None:
    policy = ReconnectPolicy(
        base=timedelta(milliseconds=1), cap=timedelta(milliseconds=5), give_up_after=timedelta(milliseconds=100)
    )
    async with Client("http://127.0.0.1:1", options=wire.options(reconnect=policy)) as client:
        with caplog.at_level(logging.WARNING, "tailplane.client"), pytest.raises(ConnectionLost) as caught:
            await wire.collect(client.get_task_result_stream("t_1"))
    assert [record.getMessage() for record in caplog.records] == [
        "the control plane at http://127.0.0.1:1 can't be reached: trying for 0.1 s"
    ]
    assert "is a control plane running" in (caught.value.hint or "")
    assert "".join(traceback.format_exception(caught.value)).count("Traceback") == 1


async def test_a_refusal_is_the_cause_of_giving_up(server: Any, wire: Any) -> None:
    policy = ReconnectPolicy(give_up_after=timedelta(seconds=5))
    server.play(wire.refuses(503, "store_unavailable", {"Retry-After": "3600"}))

    async with Client(server.url, options=wire.options(reconnect=policy)) as client:
        with pytest.raises(ConnectionLost) as caught:
            await wire.collect(client.get_task_result_stream("t_1"))
    assert isinstance(caught.value.__cause__, Unavailable)


@pytest.mark.parametrize("start", ["now", "-3"])
async def test_a_start_without_a_number_takes_its_number_from_the_first_event(
    server: Any, client: Client, wire: Any, start: str
) -> None:
    server.play(
        wire.streams(),
        wire.streams(wire.entry(8, "a", "b")),
        wire.streams(wire.entry(9, "c"), wire.succeeded(10)),
    )

    assert await wire.collect(client.get_task_result_stream("t_1", start=start)) == ["a", "b", "c"]
    assert cursors(server) == [start, start, "8"]


async def test_a_stream_starts_at_a_cursor_and_sees_holes_from_there(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.streams(wire.entry(9, "a", "b", "c"), wire.succeeded(10)))

    assert await wire.collect(client.get_task_result_stream("t_1", start=7)) == ["b", "c"]
    assert server.requests[0].headers["last-event-id"] == "7"


def test_a_start_that_is_none_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(InvalidCursor):
        Client("http://127.0.0.1:1").get_task_result_stream("t_1", start="yesterday")


async def test_a_start_at_the_terminal_event_still_tells_how_the_task_ended(
    server: Any, client: Client, wire: Any
) -> None:
    async def seen_to_the_end(exchange: Any) -> None:
        exchange._writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    failed = wire.task | {"state": "failed", "error": {"code": "timeout", "type": "T", "message": "slow"}}
    server.play(seen_to_the_end, wire.answers(failed), seen_to_the_end)

    with pytest.raises(TaskFailed, match="slow"):
        await wire.collect(client.get_task_result_stream("t_1", start=9))
    assert await wire.collect(client.task("t_1").events(start=9)) == []


async def test_a_slow_consumer_slows_the_sender_and_memory_stays_bounded(server: Any, wire: Any) -> None:
    entry_bytes, entries = 100_000, 300
    sent = 0

    async def flood(exchange: Any) -> None:
        nonlocal sent
        await exchange.start_stream()
        for seq in range(1, entries + 1):
            await exchange.send(wire.entry(seq, b"x" * entry_bytes))
            sent = seq
        await exchange.send(wire.succeeded(entries + 1))
        await exchange.end()

    server.play(flood)
    limit = 1_000_000
    async with Client(server.url, options=wire.options(buffer_bytes=limit)) as client:
        stream = client.get_task_result_stream("t_1")
        await anext(stream)
        async with asyncio.timeout(wire.patience_s):
            while not stream._buffer.is_full:
                await asyncio.sleep(0.001)
        for _ in range(2000):  # turns of the loop in which a reader that does not stop would read on
            await asyncio.sleep(0)

        # One read of the socket may complete one entry more than the limit leaves room for.
        assert stream._buffer.size_bytes <= limit + 2 * entry_bytes
        assert sent < entries
        assert 1 + len(await wire.collect(stream)) == entries


async def test_a_break_gives_the_connection_back(server: Any, client: Client, wire: Any) -> None:
    left = asyncio.Event()

    async def endless(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(1, "a"))
        await exchange.client_leaves()
        left.set()

    server.play(endless)
    async for each in client.get_task_result_stream("t_1"):
        assert each == "a"
        break

    gc.collect()
    await asyncio.wait_for(left.wait(), wire.patience_s)


async def test_closing_a_stream_gives_the_connection_back_and_is_not_taken_for_its_end(
    server: Any, client: Client, wire: Any
) -> None:
    left = asyncio.Event()

    async def endless(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(2, "a", "b"))
        await exchange.client_leaves()
        left.set()

    server.play(endless)
    async with aclosing(client.get_task_result_stream("t_1")) as stream:
        assert await anext(stream) == "a"

    await asyncio.wait_for(left.wait(), wire.patience_s)
    with pytest.raises(ConnectionLost, match="closed before its end"):
        await anext(stream)


async def test_closing_the_client_wakes_those_who_wait_with_an_error(server: Any, wire: Any) -> None:
    async def endless(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(1, "a"))
        await exchange.client_leaves()

    server.play(endless)
    client = Client(server.url)
    stream = client.get_task_result_stream("t_1")
    await anext(stream)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)

    await client.aclose()

    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(waiting, wire.patience_s)


async def test_closing_the_client_before_the_reader_ran_wakes_them_too(server: Any, wire: Any) -> None:
    client = Client(server.url)
    waiting = asyncio.create_task(anext(client.get_task_result_stream("t_1")))
    await asyncio.sleep(0)
    await client.aclose()

    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(waiting, wire.patience_s)


async def test_a_cancelled_consumer_can_go_on_where_it_was(server: Any, client: Client, wire: Any) -> None:
    go = asyncio.Event()

    async def late(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(1, "a"))
        await go.wait()
        await exchange.send(wire.entry(2, "b"), wire.succeeded(3))
        await exchange.end()

    server.play(late)
    stream = client.get_task_result_stream("t_1")
    assert await anext(stream) == "a"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(stream)
    go.set()

    assert await wire.collect(stream) == ["b"]


async def test_coalesced_lists_hold_everything_in_order(server: Any, client: Client, wire: Any) -> None:
    entries = [wire.entry(seq, seq) for seq in range(1, 201)]
    server.play(wire.streams(*entries, wire.platform(201, PlatformType.CANCELLED, {"reason": "x"})))
    got: list[int] = []

    async def read() -> None:
        async for items in client.task("t_1").results().coalesce(timedelta(milliseconds=5)):
            assert items
            got.extend(items)

    with pytest.raises(TaskCancelled):
        await asyncio.wait_for(read(), wire.patience_s)
    assert got == list(range(1, 201))


async def test_two_hundred_streams_are_read_at_once(server: Any, client: Client, wire: Any) -> None:
    everybody = asyncio.Event()

    async def together(exchange: Any) -> None:
        await exchange.start_stream()
        if len(server.requests) == 200:
            everybody.set()
        await everybody.wait()
        await exchange.send(wire.entry(1, "a"), wire.succeeded(2))
        await exchange.end()

    server.play(*[together] * 200)

    streams = [client.get_task_result_stream(f"t_{number}") for number in range(200)]
    assert await asyncio.gather(*map(wire.collect, streams)) == [["a"]] * 200
