"""Rosters: which tasks have joined the sessions that somebody reads here, looked up once for all their readers.

A bell rings when a task joins a session, or it is closed; every session is looked at once in a while besides, so that
no bell is lost for good. A roster keeps the last tasks only: who is behind reads the list from Redis.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from itertools import islice

from tailplane.broker import Broker, Join, Outage, SessionRef
from tailplane.broker.joins import Look
from tailplane.protocol.errors import SessionNotFound, StoreUnavailable

# Tasks that a roster keeps, and that one look brings at the most.
KEPT = 256
# Seconds between two looks at a session that does not ring; between two tries while Redis is away.
LOOK_EVERY = 5.0
PAUSE = 0.25
# Sessions that are looked at in one round trip.
_AT_ONCE = 64


class Roster:
    """The tasks of one session.

    Attributes:
        tail: the number of the task that joined last, as far as is known here; 0: none.
        is_closed: whether none can join after it.
        is_lost: whether the store has lost tasks that had joined: their numbers may be given again.
        readers: how many hold this roster.
        opening: done when it has been looked at for the first time; fails where that could not be done.
    """

    def __init__(self, ref: SessionRef) -> None:
        self.ref = ref
        self.tail = 0
        self.is_closed = False
        self.is_lost = False
        self.readers = 0
        self.opening: asyncio.Future[None]
        self._recent: deque[Join] = deque(maxlen=KEPT)
        # A dict, for it keeps the order in which they came.
        self._watchers: dict[Callable[[], None], None] = {}

    def begin(self, newest: Look) -> None:
        """Begin with the task that joined last."""
        self._recent.extend(newest.joined)
        self.tail = newest.joined[-1].number if newest.joined else 0
        self.is_closed = newest.is_closed

    def take(self, look: Look) -> bool:
        """Take what a look from `tail` on found; return whether there is more to look for."""
        joined = look.joined
        if self.tail:
            known, joined = joined[:1], joined[1:]
            # Of one that has expired the list is gone, too.
            self.is_lost = self.is_lost or (look.is_there and known != [self._recent[-1]])
        is_whole = len(look.joined) < KEPT
        if not self.is_lost:
            self._recent.extend(joined)
            self.tail = joined[-1].number if joined else self.tail
            # One that has expired takes no more tasks, either.
            self.is_closed = (look.is_closed or not look.is_there) and is_whole
        if joined or self.is_closed or self.is_lost:
            self.wake()
        return not is_whole

    def after(self, number: int, most: int) -> list[Join] | None:
        """Return who joined after a task, in order; None: look in Redis, it is too long ago."""
        if number >= self.tail:
            return []
        if not self._recent or self._recent[0].number > number + 1:
            return None
        return list(islice((join for join in self._recent if join.number > number), most))

    def watch(self, woken: Callable[[], None]) -> None:
        """Call `woken` when somebody has joined, or nobody can any more, until `unwatch`."""
        self._watchers[woken] = None

    def unwatch(self, woken: Callable[[], None]) -> None:
        """Do not call `woken` any more."""
        self._watchers.pop(woken, None)

    def wake(self) -> None:
        """Wake all that watch."""
        for woken in list(self._watchers):
            woken()


class Rosters:
    """All rosters of one control plane. `run` must be running."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._rosters: dict[SessionRef, Roster] = {}
        self._by_channel: dict[str, Roster] = {}
        # Those to look at; a dict, for it keeps the order in which they rang.
        self._rung: dict[Roster, None] = {}
        self._work = asyncio.Event()
        self._bells = broker.hear_joins(self._note_ring)
        self.outage = Outage("looking who joins sessions")

    async def run(self) -> None:
        """Listen and look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bells.run())
            group.create_task(self._look())
            while True:
                await asyncio.sleep(LOOK_EVERY)
                for roster in self._rosters.values():
                    self._note(roster)

    async def hold(self, ref: SessionRef) -> Roster:
        """Return the roster of a session; `release` it.

        Raises:
            SessionNotFound: there is no such session.
            StoreUnavailable: Redis does not answer.
        """
        roster = self._rosters.get(ref)
        if roster is None:
            roster = self._rosters[ref] = Roster(ref)
            self._by_channel[self._channel(ref)] = roster
            # A task of its own: the reader who came first may go while others wait for it.
            roster.opening = asyncio.ensure_future(self._begin(roster))
            roster.opening.add_done_callback(_retrieve)
        roster.readers += 1
        try:
            await asyncio.shield(roster.opening)
        except BaseException:
            await self.release(roster)
            raise
        return roster

    async def release(self, roster: Roster) -> None:
        """Let go of a roster."""
        roster.readers -= 1
        if roster.readers == 0 and self._rosters.get(roster.ref) is roster:
            roster.opening.cancel()
            channel = self._channel(roster.ref)
            del self._rosters[roster.ref], self._by_channel[channel]
            self._rung.pop(roster, None)
            await self._bells.unsubscribe(channel)

    def wake_all(self) -> None:
        """Let every reader that waits look round: the process drains."""
        for roster in self._rosters.values():
            roster.wake()

    def _channel(self, ref: SessionRef) -> str:
        return self._broker.keys.joined(ref.tenant, ref.session_id)

    async def _begin(self, roster: Roster) -> None:
        # Subscribed first, so that nobody joins unseen between the look and the first ring.
        await self._bells.subscribe(self._channel(roster.ref))
        newest = await self._broker.joins.newest(roster.ref)
        if not newest.is_there:
            session = roster.ref.session_id
            raise SessionNotFound(f"there is no session {session}", session_id=session)
        roster.begin(newest)
        # A ring that came meanwhile found nothing to look from.
        self._rung[roster] = None
        self._work.set()

    def _note_ring(self, channel: str, _: bytes | None) -> None:
        if roster := self._by_channel.get(channel):
            self._note(roster)

    def _note(self, roster: Roster) -> None:
        # One that has not begun is looked at when it has.
        if roster.opening.done():
            self._rung[roster] = None
            self._work.set()

    async def _look(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                while rung := list(islice(self._rung, _AT_ONCE)):
                    await self._look_at(rung)
                    self.outage.over()
            except StoreUnavailable as error:
                self.outage.noticed(error)
                await asyncio.sleep(PAUSE)
                self._work.set()

    async def _look_at(self, rung: list[Roster]) -> None:
        for roster in rung:
            # From here on a ring means another look.
            del self._rung[roster]
        try:
            found = await self._broker.joins.look([(roster.ref, roster.tail, KEPT) for roster in rung])
        except StoreUnavailable:
            for roster in rung:
                self._rung[roster] = None
            raise
        for roster, look in zip(rung, found, strict=True):
            if roster.take(look) and roster.ref in self._rosters:
                self._note(roster)


def _retrieve(opening: "asyncio.Future[None]") -> None:
    # So that a failure is not reported where nobody waits any more.
    if not opening.cancelled():
        with contextlib.suppress(BaseException):
            opening.exception()
