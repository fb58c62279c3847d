"""The fan-out hub: one read of a hot stream serves all its readers in this process.

Bells tell which streams have grown; a collector for each shard of the store reads those, all in one round trip, while
further bells gather. What it costs depends on the streams that grow, not on those that are quiet. A slow sweep looks at
every stream once in a while, so that no bell is ever lost for good.
"""

import asyncio
import contextvars
import itertools
import math
from collections.abc import Hashable
from typing import TypeAlias

import structlog
from redis.exceptions import ResponseError

from tailplane.broker import Broker, Outage, TaskRef, parse_published
from tailplane.broker.logs import whose
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.feed import Feed
from tailplane.control_plane.past import Turns
from tailplane.control_plane.reader import Reader, Stand
from tailplane.protocol.cursor import After, Cursor, Last, Now, Position
from tailplane.protocol.errors import CursorPastEnd, StoreUnavailable, TaskNotFound
from tailplane.protocol.ids import EntryId

log = structlog.get_logger(__name__)

# Streams that are read in one round trip; each may bring a window full.
READ_STREAMS = 64
# Seconds in which the sweep looks at every stream once, and between its steps: of 10,000 streams 34 in one.
SWEEP, SWEEP_STEP = 30.0, 0.1
# Seconds between two tries while Redis is away.
PAUSE = 0.25


# The feeds to read from one server, in the order in which they rang.
_Grown: TypeAlias = dict[Feed, None]


class Hub:
    """All feeds of one control plane. `run` must be running.

    Attributes:
        counts: what readers are given, in numbers.
        outage: whether streams can't be read.
    """

    def __init__(self, broker: Broker, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self._broker = broker
        self._feeds: dict[TaskRef, Feed] = {}
        self._by_channel: dict[str, Feed] = {}
        # By the shard that has them, while there are any.
        self._grown: dict[Hashable, _Grown] = {}
        self._group: asyncio.TaskGroup | None = None
        # A collector is first needed in a request's, and outlives it.
        self._context = contextvars.copy_context()
        self._turns = Turns()
        self.outage = Outage("reading streams")
        self._bells = broker.hear_bells(self._note_ring)

    @property
    def feed_count(self) -> int:
        """How many streams are tailed."""
        return len(self._feeds)

    @property
    def reader_count(self) -> int:
        """How many read them. Thread-safe."""
        return sum(feed.readers for feed in list(self._feeds.values()))

    @property
    def window_bytes(self) -> int:
        """How many bytes of payload all feeds keep. Thread-safe."""
        return sum(feed.window_bytes for feed in list(self._feeds.values()))

    async def run(self) -> None:
        """Listen, collect and sweep until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._bells.run())
            group.create_task(self._sweep())
            for shard in self._grown:
                self._start_collecting(shard)
            try:
                await asyncio.Event().wait()
            finally:
                # What rings from now on, nobody reads.
                self._group = None

    async def open(self, task: TaskRef, position: Position) -> Reader:
        """Return a reader that stands where `position` says. Close it.

        Raises:
            TaskNotFound: there is no such stream.
            CursorPastEnd: the stream ends before the position.
            StoreUnavailable: Redis does not answer.
        """
        feed = await self._hold(task)
        try:
            stand = await self._stand(feed, position)
        except BaseException:
            await self._release(feed)
            raise
        return Reader(self._broker.log, feed, stand, lambda: self._release(feed), self._turns)

    def wake_all(self) -> None:
        """Let every reader that waits look round: the process drains."""
        for feed in self._feeds.values():
            feed.wake()

    async def _stand(self, feed: Feed, position: Position) -> Stand:
        cursor = await self._cursor(feed, position)
        if cursor == 0:
            return Stand(EntryId(0, 0), 0)
        if cursor == feed.tail.seq:
            return Stand(feed.tail, cursor)
        record = await self._broker.tasks.read(feed.task, ("state", "attempt"))
        return Stand(await self._broker.log.locate(feed.task, cursor, record.attempt), cursor)

    async def _cursor(self, feed: Feed, position: Position) -> Cursor:
        last, end = feed.tail.seq, feed.end
        if isinstance(position, Now) or (isinstance(position, After) and position.seq > last):
            # What the feed has read may lag behind what another control plane has shown already.
            newest = await self._broker.log.newest_entry(feed.task)
            if newest is not None:
                last, end = newest.id.seq, newest.end
                if newest.id > feed.tail:
                    self._note(feed)
        match position:
            case After(seq) if seq > last:
                raise CursorPastEnd(
                    f"the stream ends at {last}, before {seq}", task_id=feed.task.task_id, last_seq=last
                )
            case After(seq):
                return seq
            case Last(count):
                return await self._broker.log.newest(feed.task, count)
            case Now():
                # Of an ended task the terminal event is what there is to say.
                return last if end is None else last - 1

    async def _hold(self, task: TaskRef) -> Feed:
        feed = self._feeds.get(task)
        if feed is None:
            feed = self._feeds[task] = Feed(task, self.counts)
            self._by_channel[self._broker.keys.bell(task)] = feed
            # A task of its own: the reader who came first may go while others wait for it.
            feed.opening = asyncio.ensure_future(self._begin(feed))
            feed.opening.add_done_callback(_retrieve)
        feed.readers += 1
        try:
            await asyncio.shield(feed.opening)
        except BaseException:
            await self._release(feed)
            raise
        return feed

    async def _begin(self, feed: Feed) -> None:
        # Subscribed first, so that nothing is written unseen between the look at the newest entry and the first ring.
        await self._bells.subscribe(self._broker.keys.bell(feed.task))
        newest = await self._broker.log.newest_entry(feed.task)
        if newest is None:
            raise TaskNotFound(f"there is no task {feed.task.task_id}", task_id=feed.task.task_id)
        feed.begin(newest)
        # A ring that came meanwhile found no window to extend.
        self._note(feed)

    async def _release(self, feed: Feed) -> None:
        feed.readers -= 1
        if feed.readers == 0 and self._feeds.get(feed.task) is feed:
            channel = self._broker.keys.bell(feed.task)
            feed.opening.cancel()
            del self._feeds[feed.task], self._by_channel[channel]
            for grown in self._grown.values():
                grown.pop(feed, None)
            await self._bells.unsubscribe(channel)

    def _note(self, feed: Feed) -> None:
        # Where its slot has moved it may be noted in two places: what is read twice is taken once.
        shard = self._broker.log.shard(feed.task)
        if shard not in self._grown:
            self._grown[shard] = {}
            self._start_collecting(shard)
        self._grown[shard][feed] = None

    def _start_collecting(self, shard: Hashable) -> None:
        if self._group is not None:
            self._group.create_task(self._collect(shard), context=self._context.copy())

    def _note_ring(self, channel: str, message: bytes | None) -> None:
        feed = self._by_channel.get(channel)
        if feed is None:
            return
        entry = None if message is None else parse_published(message)
        # What did not come with its bell, or not in its turn, is read.
        if entry is None or not feed.take(entry):
            self._note(feed)

    async def _collect(self, shard: Hashable) -> None:
        """Read the feeds of one shard that have grown, until there are none."""
        grown = self._grown[shard]
        while feeds := list(itertools.islice(grown, READ_STREAMS)):
            for feed in feeds:
                # From here on a ring means another read.
                del grown[feed]
            try:
                await self._read(feeds)
                self.outage.over(shard)
            except StoreUnavailable as error:
                self.outage.noticed(error, shard)
                await asyncio.sleep(PAUSE)
        del self._grown[shard]
        # What it could not read has another shard now, or is read no more.
        self.outage.over(shard)

    async def _read(self, feeds: list[Feed]) -> None:
        begun = [feed for feed in feeds if feed.has_begun]
        try:
            found = await self._broker.log.read_after([(feed.task, feed.tail, feed.read_count) for feed in begun])
        except StoreUnavailable:
            for feed in begun:
                self._note(feed)
            raise
        except ResponseError as error:
            await self._read_apart(begun, error)
            return
        for feed, entries in zip(begun, found, strict=True):
            if entries:
                asked = feed.read_count
                feed.extend(entries)
                if len(entries) >= asked and feed.task in self._feeds:
                    self._note(feed)

    async def _read_apart(self, feeds: list[Feed], refusal: ResponseError) -> None:
        """Read streams of which one is refused, such as a key that somebody overwrote, without losing the others."""
        if len(feeds) > 1:
            for feed in feeds:
                await self._read([feed])
            return
        for feed in feeds:
            log.error("a stream can't be read", **whose(feed.task), reason=str(refusal))
            feed.is_gone = True
            feed.wake()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_STEP)
            # Those that were not looked at for the longest time stand first, new ones last.
            count = math.ceil(len(self._feeds) * SWEEP_STEP / SWEEP)
            swept = list(itertools.islice(self._feeds.values(), count))
            for feed in swept:
                self._feeds[feed.task] = self._feeds.pop(feed.task)
            await self._look_at(swept)

    async def _look_at(self, feeds: list[Feed]) -> None:
        for feed in feeds:
            if feed.readers and feed.end is None:
                self._note(feed)
        try:
            tails = await self._broker.log.exist([feed.task for feed in feeds])
        except StoreUnavailable:
            return
        for feed, exists in zip(feeds, tails, strict=True):
            if exists is False:
                feed.is_gone = True
                feed.wake()


def _retrieve(opening: "asyncio.Future[None]") -> None:
    # So that a failure is not reported where nobody waits any more.
    if not opening.cancelled():
        opening.exception()
