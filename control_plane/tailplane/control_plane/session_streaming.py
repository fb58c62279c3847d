"""Opens the stream of a session: finds where it begins, and answers with it like any other stream."""

import asyncio
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from tailplane.broker import Broker, Join, SessionRef, TaskRef
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.open_streams import Place
from tailplane.control_plane.rosters import Roster, Rosters
from tailplane.control_plane.session_reader import MOST_OPEN, SessionReader
from tailplane.control_plane.streaming import EventStream, format_of
from tailplane.protocol.cursor import Cursor, Now
from tailplane.protocol.errors import CursorPastEnd, InvalidCursor
from tailplane.protocol.session_cursor import SessionCursor, SessionPosition, mark_of

# Tasks whose states are looked at together, to find those that are under way.
_PAGE = 500


async def stream_session(
    request: Request,
    hub: Hub,
    rosters: Rosters,
    broker: Broker,
    session: SessionRef,
    *,
    position: SessionPosition,
    keep_alive: timedelta,
    drain: asyncio.Event,
    place: Place,
) -> Response:
    """Return the response that streams a session from `position` on; 204 where nothing can follow it.

    Raises:
        NotAcceptable: the client takes none of the formats.
        SessionNotFound, CursorPastEnd, StoreUnavailable: as `open_session`.
    """
    form = format_of(request)
    reader = await open_session(hub, rosters, broker, session, position)
    # The end of a session that had no tasks has the cursor of its beginning: who sends it back has seen that end.
    is_behind = isinstance(position, SessionCursor) and (position.top or "last-event-id" in request.headers)
    if reader.is_all_shown and is_behind:
        await reader.close()
        return Response(status_code=204)
    named = {"tailplane-session-id": session.session_id}
    return EventStream(reader, form, keep_alive, drain, named, hub.counts, place)


async def open_session(
    hub: Hub, rosters: Rosters, broker: Broker, session: SessionRef, position: SessionPosition
) -> SessionReader:
    """Return a reader of a session that stands where `position` says. Close it.

    Raises:
        SessionNotFound: there is no such session.
        CursorPastEnd: the store has lost tasks that the cursor has seen.
        InvalidCursor: it has more tasks open than a reader can have.
        StoreUnavailable: Redis does not answer.
    """
    roster = await rosters.hold(session)
    try:
        if isinstance(position, Now):
            top, mark, members = await _under_way(broker, roster)
        else:
            top, mark, members = position.top, position.mark, await _opened(broker, session, position)
    except BaseException:
        await rosters.release(roster)
        raise
    reader = SessionReader(hub, broker, roster, lambda: rosters.release(roster))
    reader.begin(top, mark, members)
    return reader


_Members = dict[int, tuple[TaskRef, Cursor]]


async def _opened(broker: Broker, session: SessionRef, cursor: SessionCursor) -> _Members:
    """Return the tasks that a cursor has open."""
    if not cursor.top:
        return {}
    if len(cursor.open) > MOST_OPEN:
        raise InvalidCursor(f"the cursor has {len(cursor.open)} open tasks, and {MOST_OPEN} are the most there are")
    highest, *named = await broker.joins.named(session, [cursor.top, *cursor.open])
    if highest is None or not cursor.fits(highest.task.task_id) or None in named:
        raise CursorPastEnd(
            f"the cursor has seen {cursor.top} tasks of {session.session_id}, and the store has lost some of them",
            session_id=session.session_id,
            hint="begin at start or now",
        )
    return {join.number: (join.task, cursor.open[join.number]) for join in named if join is not None}


async def _under_way(broker: Broker, roster: Roster) -> tuple[int, str, _Members]:
    """Return the tasks that are under way, each at the end of its stream so far.

    Those beyond `MOST_OPEN` are shown from their beginnings, like tasks that join later.
    """
    top, mark = 0, ""
    members: _Members = {}
    while top < roster.tail:
        (look,) = await broker.joins.look([(roster.ref, top + 1, _PAGE)])
        if not look.joined:
            break
        for join, is_living in zip(look.joined, await _are_living(broker, look.joined), strict=True):
            newest = await broker.log.newest_entry(join.task) if is_living else None
            if newest is not None and newest.end is None:
                if len(members) == MOST_OPEN:
                    return top, mark, members
                members[join.number] = join.task, newest.id.seq
            top, mark = join.number, mark_of(join.task.task_id)
    return top, mark, members


async def _are_living(broker: Broker, joined: list[Join]) -> list[bool]:
    records = await broker.tasks.read_many([join.task for join in joined], ("state",))
    return [record is not None and not record.state.is_terminal for record in records]
