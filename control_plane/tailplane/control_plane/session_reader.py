"""A reader of a session: the streams of all its tasks as one, behind the face of `Reader`.

Each task is read by a `Reader` of the hub like any other's: the same feeds, windows and pages. Tasks are taken up in
the order in which they joined the session, and let go of when they have been shown to their ends; so many at once are
open, and those beyond wait until others have ended. What this holds is bounded by that number, and of the past by one
page.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import MappingProxyType

import structlog
from redis.exceptions import ResponseError

from tailplane.broker import Broker, Entry, TaskRef
from tailplane.broker.logs import whose
from tailplane.control_plane.formats import Format
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.reader import CHUNK_BYTES, EARLY, Reader
from tailplane.control_plane.rosters import Roster
from tailplane.control_plane.session_formats import SessionFormat, session_format
from tailplane.protocol.cursor import After, Cursor
from tailplane.protocol.errors import CursorPastEnd, StoreUnavailable, TaskGone, TaskNotFound
from tailplane.protocol.events import pack_gone
from tailplane.protocol.ids import EntryId
from tailplane.protocol.session_cursor import SessionCursor, mark_of

log = structlog.get_logger(__name__)

# Tasks that one reader has open at once. Each may have a window of a megabyte in this process, as with a reader of
# its own; and a cursor has so many numbers at the most.
MOST_OPEN = 256
# Tasks that are looked at together when they are taken up.
_AT_ONCE = 64
# Seconds between two tries to take a task up; between two tellings of a cursor that is large.
PAUSE, _LONGEST_PAUSE = 0.25, 5.0
CURSOR_EVERY = 1.0
# Open tasks up to which a cursor is small (200 characters), and told with all that is sent.
_FEW = 24


class Member:
    """One task that is being shown."""

    __slots__ = ("_grown", "cursor", "is_gone", "number", "reader", "task")

    def __init__(self, number: int, task: TaskRef, cursor: Cursor, grown: "Callable[[Member], None]") -> None:
        self.number = number
        self.task = task
        # Where it begins; when it is open, its reader knows better.
        self.cursor = cursor
        self.reader: Reader | None = None
        self.is_gone = False
        self._grown = grown

    @property
    def seq(self) -> Cursor:
        """The seq of the last event that was handed over."""
        return self.cursor if self.reader is None else self.reader.cursor

    def note_growth(self) -> None:
        """Take note that its feed has grown."""
        self._grown(self)


class SessionReader:
    """Reads the tasks of a session from a cursor on. Used by one task at a time; `close` it.

    Attributes:
        is_at_end: whether it was handed over that nothing can follow.
    """

    def __init__(self, hub: Hub, broker: Broker, roster: Roster, release: Callable[[], Awaitable[None]]) -> None:
        self.is_at_end = False
        self._hub = hub
        self._broker = broker
        self._roster = roster
        self._release = release
        self._top, self._mark = 0, ""
        self._members: dict[int, Member] = {}
        # Those that may have something to hand over; a dict, for it keeps whose turn is next.
        self._ready: dict[Member, None] = {}
        # The one whose page of the past is being handed over: there is one at a time.
        self._behind: Member | None = None
        self._is_past_due = False
        self._ended: list[Member] = []
        self._openings: set[asyncio.Task[None]] = set()
        # Taken up, and not yet told of.
        self._new: list[Member] = []
        self._clock = asyncio.get_running_loop().time
        # Whether the client is to be told where it stands.
        self._is_untold = False
        self._told_at = 0.0
        self._waiting: asyncio.Future[None] | None = None
        self._push: Callable[[], bool] | None = None
        roster.watch(self.wake)

    def begin(self, top: int, mark: str, members: dict[int, tuple[TaskRef, Cursor]]) -> None:
        """Begin behind what a cursor says; `members` are the tasks that it has open."""
        self._top, self._mark = top, mark
        for number, (task, cursor) in members.items():
            self._take_up(number, task, cursor)

    @property
    def cursor(self) -> SessionCursor:
        """What has been handed over."""
        opened = {number: member.seq for number, member in self._members.items()}
        return SessionCursor(self._top, self._mark, MappingProxyType(opened))

    @property
    def is_all_shown(self) -> bool:
        """Whether nothing is left to show, and nothing can come."""
        return self._roster.is_closed and self._top >= self._roster.tail and not self._members

    @property
    def is_caught_up(self) -> bool:
        """Whether all that is known to be there was handed over, and nobody is to be taken up or let go of."""
        return self._is_idle and not self._is_untold

    @property
    def _is_idle(self) -> bool:
        return not (self._ready or self._ended or self._new or self._has_room_for_more)

    async def chunk(self, form: Format, patience: float, push: Callable[[], bool] | None = None) -> bytes:
        """Return the next events of some tasks in a format; nothing after `patience` seconds without any.

        Args:
            form, patience, push: as `Reader.chunk`.

        Raises:
            TaskGone: the store has lost who joined the session.
        """
        if self._roster.is_lost:
            raise TaskGone("the store has lost tasks of the session", session_id=self._roster.ref.session_id)
        await self._let_go()
        has_more = await self._take_up_more()
        # In turns: neither who is far behind nor who is flat out keeps the others waiting.
        self._is_past_due = not self._is_past_due
        chunk = await self._past(form) if self._is_past_due else self.at_hand(form)
        if chunk := chunk or (self.at_hand(form) if self._is_past_due else await self._past(form)):
            return chunk
        if self.is_all_shown:
            self.is_at_end = True
            how = session_format(form)
            return how.ended() + how.cursor(str(self.cursor))
        if not (self._ended or has_more):
            await self._wait(min(patience, self._cursor_due()) if self._is_untold else patience, push)
        return self.at_hand(form)

    def at_hand(self, form: Format) -> bytes:
        """Return what the windows of the open tasks have, up to about `CHUNK_BYTES`."""
        how = session_format(form)
        pieces = [how.joined(member.number, member.task.task_id) for member in self._new]
        self._new.clear()
        size = 0
        for member in list(self._ready):
            if size >= CHUNK_BYTES:
                break
            piece = self._of(member, how)
            size += len(piece)
            pieces.append(piece)
        self._is_untold |= size > 0 and how.tells_cursor
        pieces.append(self._place(how))
        return b"".join(pieces)

    def wake(self) -> None:
        """Let a `chunk` that waits return."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def close(self) -> None:
        """Let go of everything."""
        self._roster.unwatch(self.wake)
        for opening in self._openings:
            opening.cancel()
        await asyncio.gather(*self._openings, return_exceptions=True)
        for member in (*self._members.values(), *self._ended):
            await self._close(member)
        await self._release()

    def _of(self, member: Member, how: SessionFormat) -> bytes:
        """Return what a task's window has, and note where it stands now."""
        del self._ready[member]
        form = how.of_task(member.number, member.task.task_id)
        reader = member.reader
        if member.is_gone or reader is None or (reader.is_caught_up and reader.is_gone):
            self._end(member)
            # In the place of what it would have said; its own seq is the next one.
            return form.encode(Entry(EntryId(0, member.seq + 1), pack_gone()), 0)
        piece = reader.at_hand(form)
        self._note_turn(member, reader)
        return piece

    def _note_turn(self, member: Member, reader: Reader) -> None:
        if reader.is_at_end:
            self._end(member)
        elif not reader.is_caught_up:
            # Behind all others.
            self._ready.pop(member, None)
            self._ready[member] = None

    def _end(self, member: Member) -> None:
        del self._members[member.number]
        self._ended.append(member)

    async def _past(self, form: Format) -> bytes:
        """Return the next events of a task that is behind its window; nothing where none is."""
        behind = self._behind or next((each for each in self._ready if each.reader and each.reader.is_behind), None)
        if behind is None or behind.reader is None:
            return b""
        how = session_format(form)
        # The notices first: frames bear numbers that they tell of.
        head = b"".join([how.joined(member.number, member.task.task_id) for member in self._new])
        self._new.clear()
        self._behind = None
        self._ready.pop(behind, None)
        self._ready[behind] = None
        try:
            piece = await behind.reader.chunk(how.of_task(behind.number, behind.task.task_id), 0.0)
        except StoreUnavailable:
            # Its shard is away: the others go on.
            return head
        except TaskGone:
            behind.is_gone = True
            return head
        if behind.reader.is_caught_up:
            del self._ready[behind]
        self._note_turn(behind, behind.reader)
        # To its end, before another one's is read.
        self._behind = behind if behind.reader.has_page else None
        self._is_untold = how.tells_cursor
        return head + piece + self._place(how)

    def _place(self, how: SessionFormat) -> bytes:
        """Return what tells the reader where it stands, if it has to be told and is due."""
        if not self._is_untold or self._cursor_due() > 0:
            return b""
        self._is_untold, self._told_at = False, self._clock()
        return how.cursor(str(self.cursor))

    def _cursor_due(self) -> float:
        """Return in how many seconds a cursor may be told."""
        return 0.0 if len(self._members) <= _FEW else max(0.0, self._told_at + CURSOR_EVERY - self._clock())

    @property
    def _has_room_for_more(self) -> bool:
        return self._top < self._roster.tail and len(self._members) < MOST_OPEN

    async def _take_up_more(self) -> bool:
        """Take up the next who have joined, if there is room; return whether there are more to take up at once."""
        if not self._has_room_for_more:
            return False
        most = min(_AT_ONCE, MOST_OPEN - len(self._members))
        joined = self._roster.after(self._top, most)
        try:
            if joined is None:
                (look,) = await self._broker.joins.look([(self._roster.ref, self._top + 1, most)])
                joined = look.joined
            there = await self._broker.log.exist([join.task for join in joined])
        except StoreUnavailable:
            return False
        for join, exists in zip(joined, there, strict=True):
            self._top, self._mark = join.number, mark_of(join.task.task_id)
            # One whose retention has passed is left out, as in listings.
            if exists is not False:
                self._take_up(join.number, join.task, 0)
        if not joined:
            # The session has expired, and the list of its tasks with it: nobody can name them any more.
            self._top = self._roster.tail
        return self._has_room_for_more

    def _take_up(self, number: int, task: TaskRef, cursor: Cursor) -> None:
        member = self._members[number] = Member(number, task, cursor, self._note_growth)
        self._new.append(member)
        # By themselves, for one's shard may be away; they end with this reader.
        opening = asyncio.create_task(self._open(member))
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)

    async def _open(self, member: Member) -> None:
        pause = PAUSE
        while True:
            try:
                member.reader = await self._hub.open(member.task, After(member.cursor))
            except (StoreUnavailable, CursorPastEnd):
                # What a reader has seen and the store has lost, its worker appends again, or the task's end follows it.
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            except TaskNotFound:
                member.is_gone = True
            except ResponseError as error:
                # Such as a key that somebody overwrote: the other tasks can be read.
                log.error("a stream can't be read", **whose(member.task), reason=str(error))
                member.is_gone = True
            else:
                member.reader.watch(member.note_growth)
            break
        self._note_growth(member)

    async def _let_go(self) -> None:
        # One by one: where this is cancelled, `close` finds the others.
        while self._ended:
            await self._close(self._ended.pop())

    async def _close(self, member: Member) -> None:
        if member.reader is not None:
            member.reader.unwatch(member.note_growth)
            await member.reader.close()

    def _note_growth(self, member: Member) -> None:
        if member.number not in self._members:
            return
        self._ready[member] = None
        try:
            if self._push is not None and self._waiting is not None and not self._waiting.done() and self._push():
                return
        except Exception as error:
            # As in `Reader`: who waits will meet it again by itself.
            log.debug("a push failed", session_id=self._roster.ref.session_id, reason=repr(error))
        self.wake()

    async def _wait(self, patience: float, push: Callable[[], bool] | None) -> None:
        if not self._is_idle:
            # Nothing of it came: a shard is away. Not at once again.
            patience, push = min(patience, PAUSE), None
        loop = asyncio.get_running_loop()
        self._waiting, self._push = loop.create_future(), push
        timer = loop.call_later(patience + EARLY, self.wake)
        try:
            await self._waiting
        finally:
            self._waiting = self._push = None
            timer.cancel()
