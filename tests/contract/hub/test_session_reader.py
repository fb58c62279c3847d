"""A reader of a session is handed the events of all its tasks, each once and in its task's order, whatever happens."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from tailplane.broker import Broker, NewTask, SessionRef, TaskRef
from tailplane.control_plane import rosters as rosters_module
from tailplane.control_plane import session_reader as reader_module
from tailplane.control_plane import session_streaming as streaming_module
from tailplane.control_plane.formats import FRAMES, NDJSON, SSE, Format
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.rosters import Rosters
from tailplane.control_plane.session_reader import SessionReader
from tailplane.control_plane.session_streaming import open_session
from tailplane.protocol import codec
from tailplane.protocol.cursor import Now
from tailplane.protocol.errors import CursorPastEnd, InvalidCursor, SessionNotFound, StoreUnavailable, TaskGone
from tailplane.protocol.ids import new_session_id, new_task_id, new_worker_id
from tailplane.protocol.session_cursor import SessionCursor, SessionPosition, parse_session_position

from .conftest import DEADLINE, Author

Open = Callable[..., Awaitable[SessionReader]]


class Group:
    """A session whose tasks the test writes to."""

    def __init__(self, broker: Broker, ref: SessionRef) -> None:
        self.broker = broker
        self.ref = ref

    async def add(self) -> Author:
        """Let another task join, and begin: its stream has two events."""
        task = TaskRef(new_task_id())
        await self.broker.tasks.create(NewTask(task, "test", "1", codec.pack(None), self.ref.session_id))
        await self.broker.queue.enqueue(task, "test", session=self.ref.session_id)
        begun = await self.broker.tasks.begin(task, new_worker_id(), "here")
        return Author(self.broker, task, begun, begun.seq)

    async def close(self) -> None:
        await self.broker.catalogue.close_session(self.ref.tenant, self.ref.session_id)


@pytest.fixture
async def group(broker: Broker) -> Group:
    session = await broker.catalogue.create_session("default", {})
    return Group(broker, SessionRef(session.session_id))


@pytest.fixture
async def rosters(broker: Broker) -> AsyncIterator[Rosters]:
    rosters = Rosters(broker)
    running = asyncio.ensure_future(rosters.run())
    yield rosters
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.fixture
async def open_at(hub: Hub, rosters: Rosters, broker: Broker, group: Group) -> AsyncIterator[Open]:
    opened: list[SessionReader] = []

    async def open_at(position: SessionPosition | None = None) -> SessionReader:
        reader = await open_session(hub, rosters, broker, group.ref, position or SessionCursor())
        opened.append(reader)
        return reader

    yield open_at
    for reader in opened:
        await reader.close()
    assert not hub.feed_count


class Seen:
    """What a client has been sent."""

    def __init__(self, form: Format = NDJSON) -> None:
        self.form = form
        self.events: list[tuple[str, int, Any]] = []
        self.cursor = "start"
        self.has_ended = False

    def take(self, chunk: bytes) -> None:
        for line in chunk.splitlines():
            said = json.loads(line)
            if "cursor" in said:
                self.cursor = said["cursor"]
            elif said.get("type") == "session.ended":
                self.has_ended = True
            else:
                self.events.append((said["task_id"], said["seq"], said["data"]))

    def of(self, author: Author) -> list[int]:
        return [seq for task, seq, _ in self.events if task == author.task.task_id]

    async def read(self, reader: SessionReader, until: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not until() and not reader.is_at_end:
                self.take(await reader.chunk(self.form, 1.0))


def _has(seen: Seen, count: int) -> bool:
    return len(seen.events) >= count


async def test_the_tasks_of_a_session_are_shown_and_then_its_end(group: Group, open_at: Open) -> None:
    one, other = await group.add(), await group.add()
    await one.write("a", "b")
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.events) == 6)
    await other.write("c")
    await one.finish()
    await seen.read(reader, lambda: len(seen.events) == 8)
    await group.close()
    await other.finish()
    await seen.read(reader, lambda: False)
    assert seen.has_ended
    assert seen.of(one) == [1, 2, 3, 4, 5]
    assert seen.of(other) == [1, 2, 3, 4]


async def test_a_task_that_joins_is_shown_by_itself(group: Group, open_at: Open) -> None:
    reader, seen = await open_at(), Seen()
    reading = asyncio.ensure_future(seen.read(reader, lambda: len(seen.events) == 2))
    await asyncio.sleep(0)
    late = await group.add()
    await reading
    assert seen.of(late) == [1, 2]


@pytest.fixture
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For rosters that begin to run afterwards."""
    monkeypatch.setattr(rosters_module, "LOOK_EVERY", 0.05)


@pytest.mark.usefixtures("frequent_looks")
async def test_a_lost_ring_is_made_up_for_by_a_look(group: Group, open_at: Open, broker: Broker) -> None:
    reader, seen = await open_at(), Seen()
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "test", "1", codec.pack(None), group.ref.session_id))
    # As `enqueue` does, but nobody is told.
    key = broker.keys.session_joins(group.ref.tenant, group.ref.session_id)
    await broker.redis.execute_command("XADD", key, "0-*", "t", task.task_id)
    await seen.read(reader, lambda: len(seen.events) == 1)
    assert seen.events[0][0] == task.task_id


async def test_every_cursor_that_was_told_goes_on_where_it_was(group: Group, open_at: Open) -> None:
    authors = [await group.add() for _ in range(3)]
    seen, expected = Seen(), 0
    for turn in range(8):
        for author in authors[turn % 2 :]:
            await author.write(turn, turn)
            expected += 2
        if turn == 4:
            await authors.pop().finish()
            authors.append(await group.add())
            expected += 3
        reader = await open_at(parse_session_position(seen.cursor))
        await seen.read(reader, partial(_has, seen, expected + 6))
        await reader.close()
        reader.close = _nothing  # type: ignore[method-assign]
    by_task: dict[str, list[int]] = {}
    for task, seq, _ in seen.events:
        by_task.setdefault(task, []).append(seq)
    assert len(by_task) == 4
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in by_task.values())


async def _nothing() -> None:
    pass


@pytest.mark.parametrize("form", [SSE, NDJSON, FRAMES])
async def test_each_format_shows_all(group: Group, open_at: Open, form: Format) -> None:
    one, other = await group.add(), await group.add()
    await one.write("a")
    await other.write(b"\xff")
    for author in (one, other):
        await author.finish()
    await group.close()
    reader, sent = await open_at(), b""
    async with asyncio.timeout(DEADLINE):
        while not reader.is_at_end:
            sent += await reader.chunk(form, 1.0)
    if form is FRAMES:
        unpacker = codec.unpacker(1 << 20)
        unpacker.feed(sent)
        frames = list(unpacker)
        assert [frame["task"] for frame in frames if isinstance(frame, dict) and "task" in frame] == [
            [1, one.task.task_id],
            [2, other.task.task_id],
        ]
        assert {frame[3] for frame in frames if isinstance(frame, list)} == {1, 2}
        assert frames[-1] == {"ended": True}
    else:
        assert sent.count(b'"task_id":"%b"' % one.task.task_id.encode()) == 4
        assert sent.count(b"session.ended") == (2 if form is SSE else 1)


async def test_now_is_what_comes_next(group: Group, open_at: Open) -> None:
    ended, one = await group.add(), await group.add()
    await ended.finish()
    await one.write("before")
    reader, seen = await open_at(Now()), Seen()
    cursor = str(reader.cursor)
    await one.write("after")
    late = await group.add()
    await seen.read(reader, lambda: len(seen.events) == 3)
    assert [each for each in seen.events if each[0] == one.task.task_id] == [(one.task.task_id, 4, "after")]
    assert seen.of(late) == [1, 2]
    # Who loses the connection before the first event begins there, too.
    again, more = await open_at(parse_session_position(cursor)), Seen()
    await more.read(again, lambda: len(more.events) == 3)
    assert sorted(more.events) == sorted(seen.events)


async def test_tasks_beyond_the_bound_wait_for_others_to_end(
    group: Group, open_at: Open, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MOST_OPEN", 3)
    authors = [await group.add() for _ in range(8)]
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.events) == 6)
    assert hub.feed_count == 3
    assert [len(seen.of(author)) for author in authors] == [2, 2, 2, 0, 0, 0, 0, 0]
    await group.close()
    for author in authors:
        await author.finish()
    await seen.read(reader, lambda: False)
    assert [seen.of(author) for author in authors] == [[1, 2, 3]] * 8


async def test_a_cursor_does_not_grow_with_the_tasks_that_have_ended(group: Group, open_at: Open) -> None:
    first = await group.add()
    reader, seen = await open_at(), Seen()
    for _ in range(40):
        author = await group.add()
        await author.finish()
    await seen.read(reader, lambda: len(seen.events) == 122)
    assert len(seen.cursor) < 30
    assert dict(reader.cursor.open) == {1: 2}
    await first.finish()


async def test_a_task_whose_retention_has_passed_is_left_out(group: Group, open_at: Open, broker: Broker) -> None:
    gone, there = await group.add(), await group.add()
    await broker.tasks.discard(gone.task)
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.events) == 2)
    assert seen.of(there) == [1, 2]
    assert dict(reader.cursor.open) == {2: 2}


async def test_a_task_that_goes_while_it_is_shown_is_told_of(group: Group, open_at: Open, broker: Broker) -> None:
    gone, there = await group.add(), await group.add()
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.events) == 4)
    cursor = parse_session_position(seen.cursor)
    await broker.tasks.discard(gone.task)
    again, more = await open_at(cursor), Seen()
    # Another reader's feed may still have it.
    await reader.close()
    reader.close = _nothing  # type: ignore[method-assign]
    await group.close()
    await there.finish()
    await more.read(again, lambda: len(more.events) == 2 or again.is_at_end)
    told = [each for each in more.events if each[0] == gone.task.task_id]
    assert told in ([(gone.task.task_id, 3, {"reason": "retention"})], [])


async def test_a_reader_far_behind_holds_one_page_at_a_time(group: Group, open_at: Open, hub: Hub) -> None:
    authors = [await group.add() for _ in range(3)]
    # Kept in the windows' feeds by nobody: all of it is past.
    for number in range(40):
        for author in authors:
            await author.write([number, b"x" * 60_000])
    reader, seen = await open_at(), Seen()
    held = 0
    async with asyncio.timeout(DEADLINE):
        while len(seen.events) < 126:
            seen.take(await reader.chunk(NDJSON, 1.0))
            pages = [each for each in reader._members.values() if each.reader and each.reader.has_page]
            held = max(held, len(pages))
    assert held == 1
    assert [seen.of(author) for author in authors] == [list(range(1, 43))] * 3


async def test_who_is_far_behind_does_not_keep_the_others_waiting(group: Group, open_at: Open) -> None:
    long, live = await group.add(), await group.add()
    for number in range(60):
        await long.write([number, b"x" * 60_000])
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.of(live)) == 2)
    assert len(seen.of(long)) < 30
    await live.write("live")
    await seen.read(reader, lambda: len(seen.of(live)) == 3)
    assert len(seen.of(long)) < 60
    await seen.read(reader, lambda: len(seen.of(long)) == 62)


async def test_a_stream_that_can_t_be_read_is_told_of(group: Group, open_at: Open, broker: Broker) -> None:
    broken, there = await group.add(), await group.add()
    await broker.redis.delete(broker.keys.stream(broken.task))
    await broker.redis.set(broker.keys.stream(broken.task), "overwritten")
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.events) == 3)
    assert seen.of(there) == [1, 2]
    assert [data for task, _, data in seen.events if task == broken.task.task_id] == [{"reason": "retention"}]


async def test_a_cursor_with_more_tasks_than_there_can_be_is_refused(
    group: Group, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming_module, "MOST_OPEN", 2)
    with pytest.raises(InvalidCursor):
        await open_at(SessionCursor(3, "x" * 6, {1: 0, 2: 0, 3: 0}))


async def test_what_is_written_while_readers_come_and_go_is_lost_to_none(group: Group, open_at: Open) -> None:
    async def write() -> list[Author]:
        authors = []
        for number in range(12):
            author = await group.add()
            authors.append(author)
            for other in authors[-5:]:
                await other.write(number)
            if number >= 5:
                await authors[number - 5].finish()
        for author in authors[-5:]:
            await author.finish()
        await group.close()
        return authors

    async def tail() -> Seen:
        seen = Seen()
        while not seen.has_ended:
            reader = await open_at(parse_session_position(seen.cursor))
            await seen.read(reader, partial(_has, seen, len(seen.events) + 7))
            await reader.close()
            reader.close = _nothing  # type: ignore[method-assign]
        return seen

    authors, *tails = await asyncio.gather(write(), *(tail() for _ in range(5)))
    for seen in tails:
        for author in authors:
            assert seen.of(author) == list(range(1, author.seq + 1))


async def test_nobody_s_session_is_not_found(hub: Hub, rosters: Rosters, broker: Broker) -> None:
    with pytest.raises(SessionNotFound):
        await open_session(hub, rosters, broker, SessionRef(new_session_id()), SessionCursor())


async def test_a_cursor_of_tasks_that_the_store_has_lost_is_refused(
    group: Group, open_at: Open, broker: Broker
) -> None:
    await group.add()
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.events) == 2)
    key = broker.keys.session_joins(group.ref.tenant, group.ref.session_id)
    await broker.redis.delete(key)
    with pytest.raises(CursorPastEnd):
        await open_at(parse_session_position(seen.cursor))
    # The number is given again: the mark tells that it is another task.
    await group.add()
    with pytest.raises(CursorPastEnd):
        await open_at(parse_session_position(seen.cursor))
    # Who reads it is sent away, to be told.
    with pytest.raises(TaskGone):
        await seen.read(reader, lambda: False)


async def test_readers_of_one_session_share_one_roster(group: Group, open_at: Open, rosters: Rosters) -> None:
    await group.add()
    readers = [await open_at() for _ in range(3)]
    seen = [Seen() for _ in readers]
    await asyncio.gather(
        *(each.read(reader, partial(_has, each, 2)) for reader, each in zip(readers, seen, strict=True))
    )
    assert len(rosters._rosters) == 1
    assert seen[0].events == seen[1].events == seen[2].events


async def test_an_entry_that_ends_a_task_is_pushed_and_the_task_let_go_of(
    group: Group, open_at: Open, hub: Hub
) -> None:
    one = await group.add()
    reader, seen = await open_at(), Seen()
    await seen.read(reader, lambda: len(seen.events) == 2)

    def push() -> bool:
        seen.take(reader.at_hand(NDJSON))
        return reader.is_caught_up and not reader.is_at_end

    waiting = asyncio.ensure_future(reader.chunk(NDJSON, DEADLINE, push))
    await asyncio.sleep(0)
    await one.write("pushed")
    await one.finish()
    seen.take(await waiting)
    await seen.read(reader, lambda: not hub.feed_count)
    assert [seq for _, seq, _ in seen.events] == [1, 2, 3, 4]


async def test_a_store_s_shard_that_is_away_holds_up_no_other_task(
    group: Group, open_at: Open, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, there = await group.add(), await group.add()
    open_task = hub.open
    is_away = True

    async def open_unless_away(task: TaskRef, position: Any) -> Any:
        if task == away.task and is_away:
            raise StoreUnavailable("a shard is away")
        return await open_task(task, position)

    monkeypatch.setattr(hub, "open", open_unless_away)
    reader, seen = await open_at(), Seen()
    await there.write("on")
    await seen.read(reader, lambda: len(seen.events) == 3)
    assert seen.of(there) == [1, 2, 3]
    is_away = False
    await seen.read(reader, lambda: len(seen.events) == 5)
    assert seen.of(away) == [1, 2]
