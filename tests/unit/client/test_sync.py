"""The blocking face. The server runs on a thread here, since these tests block their own."""

import inspect
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tailplane.client import Client, Session, StreamGap, SyncClient, SyncSession, SyncTask, Task, TaskFailed
from tailplane.client.loop_thread import LoopThread
from tailplane.protocol.events import PlatformType, pack_gap
from tailplane.protocol.frames import encode_frame, encode_notice, number_frame
from tailplane.protocol.ids import EntryId
from tailplane.protocol.session_cursor import SessionCursor, parse_session_position


@pytest.fixture
def blocking_server(new_server: Any) -> Iterator[Any]:
    scripted = new_server()
    thread = LoopThread()
    thread.run(scripted.start())
    yield scripted
    thread.run(scripted.stop())
    thread.close()


@pytest.fixture
def client(blocking_server: Any, wire: Any) -> Iterator[SyncClient]:
    with SyncClient(blocking_server.url, options=wire.options()) as client:
        yield client


def test_a_workflow_is_run_and_followed(blocking_server: Any, client: SyncClient, wire: Any) -> None:
    blocking_server.play(
        wire.answers(wire.session, 201),
        wire.answers(wire.task, 202),
        wire.streams(wire.entry(2, "a", "b"), wire.succeeded(3)),
        wire.answers(wire.task | {"state": "succeeded", "result": 42}),
        wire.answers(wire.session | {"closed": True}),
    )

    with client.start_session(cancel_on_exit=True) as session:
        task = session.run_workflow("words", {"n": 1})
        assert list(session.get_task_result_stream(task.task_id)) == ["a", "b"]
        assert (task.workflow, task.result(timeout=5)) == ("words", 42)

    assert session.session_id == "s_1"
    assert blocking_server.requests[-1].query == {"cancel": "true"}


def test_errors_come_as_in_the_asynchronous_client(blocking_server: Any, client: SyncClient, wire: Any) -> None:
    blocking_server.play(wire.streams(wire.entry(1, "a"), wire.platform(2, PlatformType.FAILED, {"error": {}})))
    stream = client.get_task_result_stream("t_1")

    assert next(stream) == "a"
    with pytest.raises(TaskFailed):
        next(stream)


def test_an_exception_in_a_session_goes_through_and_closes_it(
    blocking_server: Any, client: SyncClient, wire: Any
) -> None:
    blocking_server.play(wire.answers(wire.session, 201), wire.answers(wire.session))

    with pytest.raises(KeyError, match="mine"), client.start_session():
        raise KeyError("mine")
    assert blocking_server.requests[1].method == "DELETE"


def test_lists_and_views_are_plain_iterators(blocking_server: Any, client: SyncClient, wire: Any) -> None:
    blocking_server.play(
        wire.answers({"tasks": [wire.task], "next_page": None}),
        wire.answers({"workflows": []}),
        wire.answers({"dead_letters": [], "next_page": None}),
        wire.answers(wire.task | {"task_id": "t_2", "position": 4}, 201),
        wire.streams(wire.entry(2, "a", "b"), wire.succeeded(3)),
        wire.streams(wire.entry(1, "a"), wire.succeeded(2)),
    )

    assert [task.task_id for task in client.tasks(state="queued")] == ["t_1"]
    assert client.workflows() == []
    assert list(client.dead_letters()) == []
    again = client.requeue("t_1")
    assert (again.task_id, again.position) == ("t_2", 4)
    lists = list(client.task("t_1").results().coalesce(timedelta(0)))
    assert [item for items in lists for item in items] == ["a", "b"]
    assert [event.seq for event in client.task("t_1").events()] == [1, 2]


def test_a_stream_left_early_gives_the_connection_back(blocking_server: Any, client: SyncClient, wire: Any) -> None:
    left = threading.Semaphore(0)

    async def endless(exchange: Any) -> None:
        await exchange.start_stream()
        await exchange.send(wire.entry(1, "a"))
        await exchange.client_leaves()
        left.release()

    blocking_server.play(endless, endless)
    for _ in client.get_task_result_stream("t_1"):
        break
    assert left.acquire(timeout=wire.patience_s)

    stream = client.get_task_result_stream("t_1")
    next(stream)
    stream.close()
    assert left.acquire(timeout=wire.patience_s)


def test_a_cursor_is_behind_what_was_shown_and_not_behind_what_has_arrived(
    blocking_server: Any, client: SyncClient, wire: Any
) -> None:
    whole = wire.platform(1, PlatformType.QUEUED, {}) + wire.entry(4, "a", "b", "c") + wire.succeeded(5)
    blocking_server.play(*[wire.streams(whole)] * 2, wire.answers(wire.task | {"state": "succeeded"}))

    stream = client.get_task_result_stream("t_1")
    assert stream.cursor == 0
    assert [(each, stream.cursor) for each in stream] == [("a", 2), ("b", 3), ("c", 4)]
    assert stream.cursor == 5
    events = client.task("t_1").events()
    assert [event.seq for event in events if event.seq == events.cursor] == [1, 2, 3, 4, 5]


def test_a_stream_that_was_left_goes_on_at_its_cursor(blocking_server: Any, client: SyncClient, wire: Any) -> None:
    blocking_server.play(
        wire.streams(wire.entry(3, "a", "b", "c"), wire.succeeded(4)),
        wire.streams(wire.entry(3, "c"), wire.succeeded(4)),
    )
    stream = client.get_task_result_stream("t_1")

    assert [next(stream), next(stream)] == ["a", "b"]
    assert list(client.get_task_result_stream("t_1", start=stream.cursor)) == ["c"]
    assert blocking_server.requests[1].query == {"from": "2"}


def test_a_session_s_stream_goes_on_at_its_cursor(blocking_server: Any, client: SyncClient, wire: Any) -> None:
    first, second = "t_aaaaaa", "t_bbbbbb"
    tasks = [encode_notice({"task": [number, each]}) for number, each in ((1, first), (2, second))]
    late = number_frame(wire.entry(3, "c"), 1), number_frame(wire.succeeded(1), 2), number_frame(wire.succeeded(4), 1)
    ended = encode_notice({"ended": True})
    blocking_server.play(
        wire.answers(wire.session),
        wire.streams(*tasks, number_frame(wire.entry(3, "a", "b", "c"), 1), *late[1:], ended),
        wire.streams(*tasks, *late, ended),
    )
    session = client.session("s_1")
    stream = session.events()

    assert [next(stream).event.data, next(stream).event.data] == ["a", "b"]
    assert parse_session_position(stream.cursor) == SessionCursor(2, second[-6:], {1: 2, 2: 0})
    rest = [(item.task_id, item.event.seq) for item in session.events(start=stream.cursor)]
    assert rest == [(first, 3), (second, 1), (first, 4)]
    assert blocking_server.requests[2].query == {"from": stream.cursor}


def test_what_can_t_be_shown_comes_in_its_place_and_the_stream_goes_on(
    blocking_server: Any, client: SyncClient, wire: Any
) -> None:
    gap = encode_frame(EntryId(1, 7), pack_gap(2, 7))
    blocking_server.play(*[wire.streams(wire.entry(1, "a"), gap, wire.entry(8, "h"), wire.succeeded(9))] * 2)
    stream = client.get_task_result_stream("t_1")

    assert next(stream) == "a"
    with pytest.raises(StreamGap, match="events 2 to 7"):
        next(stream)
    assert stream.cursor == 7
    assert list(stream) == ["h"]

    stream = client.get_task_result_stream("t_1")
    assert next(stream) == "a"
    view = stream.coalesce(0)
    with pytest.raises(StreamGap):
        next(view)
    assert list(view) == [["h"]]
    assert stream.cursor == 9


@pytest.mark.anyio
async def test_it_works_where_a_loop_already_runs(blocking_server: Any, wire: Any) -> None:
    blocking_server.play(wire.answers({"workers": []}))

    with SyncClient(blocking_server.url) as client:
        assert client.workers() == []


def test_ctrl_c_ends_a_blocking_call_and_leaves_the_client_usable(
    blocking_server: Any, client: SyncClient, wire: Any
) -> None:
    left = threading.Event()

    async def interrupted(exchange: Any) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await exchange.client_leaves()
        left.set()

    blocking_server.play(interrupted, wire.answers({"workers": []}))

    with pytest.raises(KeyboardInterrupt):
        client.task("t_1").result()
    assert left.wait(wire.patience_s)
    assert client.workers() == []


def test_a_closed_client_says_so_and_its_thread_is_gone(blocking_server: Any) -> None:
    client = SyncClient(blocking_server.url)
    client.close()
    client.close()

    with pytest.raises(RuntimeError, match="closed"):
        client.workers()
    assert not client._thread._thread.is_alive()


def test_a_client_that_is_forgotten_takes_its_thread_with_it(wire: Any) -> None:
    client = SyncClient("http://127.0.0.1:1")
    thread = client._thread._thread
    del client

    thread.join(wire.patience_s)
    assert not thread.is_alive()


@pytest.mark.parametrize(("blocking", "original"), [(SyncClient, Client), (SyncSession, Session), (SyncTask, Task)])
def test_every_public_method_has_its_blocking_form_with_the_same_signature(blocking: type, original: type) -> None:
    renamed = {"aclose": "close"}
    for name, method in inspect.getmembers(original, inspect.isfunction):
        if name.startswith("_"):
            continue
        twin = getattr(blocking, renamed.get(name, name))
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(method).parameters)
        assert twin.__doc__


def test_messages_and_steps_are_plain_calls(blocking_server: Any, client: SyncClient, wire: Any) -> None:
    taken = wire.answers({"task_id": "t_1", "number": 1}, 202)
    blocking_server.play(taken, taken, wire.answers({"steps": []}))

    task = client.task("t_1")
    assert (client.send_event("t_1", "hi"), task.send_event("ho"), task.steps()) == (1, 1, [])
