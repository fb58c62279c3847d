"""A task's stream as callers see it: asynchronous iterators over events, or over what the workflow wrote.

A stream reads nothing before it is iterated over. It ends by itself when the task has ended. Left early (`break`), it
stops reading as soon as it is garbage-collected or its client closes; `async with contextlib.aclosing(stream):` does
so at the block's end. One consumer at a time.
"""

import asyncio
import contextlib
import enum
import operator
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Generic, Literal, Self, TypeVar

from tailplane.client.buffer import BatchBuffer
from tailplane.client.coalesce import Coalesced
from tailplane.client.durations import Duration
from tailplane.client.gaps import error_of_gap, is_gap
from tailplane.client.link import Link
from tailplane.client.outcome import error_of_event, error_of_task
from tailplane.client.reader import Reader
from tailplane.client.rewinds import CHOICES, OnRewind, Rewind, Superseded
from tailplane.client.runs import Batch, Run
from tailplane.client.source import Source, TaskSource
from tailplane.protocol.cursor import START, Cursor
from tailplane.protocol.errors import ConnectionLost, EventMismatch, StreamGap, TaskError
from tailplane.protocol.events import Event, Kind

T = TypeVar("T")

# Looking a member up in its enum costs more than the comparison, hundreds of thousands of times a second.
_PLATFORM = Kind.PLATFORM
_DATA = operator.itemgetter(1)


class Hidden(enum.Enum):
    """What the consumer does not get to see, or not yet."""

    HIDDEN = enum.auto()


HIDDEN: Final = Hidden.HIDDEN


class Stream(ABC, Generic[T]):
    """What all kinds of streams have in common: where events come from, and how they reach the consumer."""

    def __init__(self, link: Link, source: Source) -> None:
        """Prepare to read `source`."""
        self._link = link
        self._name = source.name
        self._buffer = BatchBuffer(link.transport.options.buffer_bytes)
        self._reader = Reader(link.transport, source, self._buffer)
        self._reading: asyncio.Task[None] | None = None
        # What was taken from the buffer and not yet begun with.
        self._ahead: deque[Batch] = deque()
        # What was begun with and not yet shown; never both.
        self._plain: Iterator[list[Any]] = iter(())
        self._batch: Iterator[Event] = iter(())
        self._cursor = START
        # What is to be raised when all before it was shown.
        self._obstacle: EventMismatch | StreamGap | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        # As `at_hand` does; to call it for each of these costs a quarter more.
        for plain in self._plain:
            self._cursor += 1
            shown: T = plain[1]
            return shown
        while (item := self.at_hand()) is HIDDEN:
            await self._advance()
        return item

    def at_hand(self) -> T | Literal[Hidden.HIDDEN]:
        """Return the next item of what was taken from the buffer already; HIDDEN: nothing is left of it.

        The cursor is the item's then. It touches nothing that the reader does, and may be called on another thread than
        the loop's.

        Raises:
            EventMismatch, StreamGap: as in iteration.
        """
        if self._obstacle is not None:
            raise self._pop_obstacle()
        while True:
            for item in self._plain:
                self._cursor += 1
                shown: T = item[1]
                return shown
            for event in self._batch:
                self._cursor = event.seq
                seen = self._show(event)
                if seen is not HIDDEN:
                    return seen
            if not self._ahead:
                return HIDDEN
            self._begin(self._ahead.popleft())

    async def refill(self) -> None:
        """Take all that has arrived from the buffer, for `at_hand`, waiting until there is something.

        Raises:
            StopAsyncIteration, TaskError: there is no more, and how the task ended.
        """
        # Not empty after an interrupted call that took it after all: waiting for more would hold it back.
        if self._ahead:
            return
        self._ahead.append(await self._arrived())
        while (batch := self._buffer.take_now()) is not None:
            self._ahead.append(batch)

    async def take(self) -> list[T]:
        """Return all that has arrived, in order, waiting until there is something.

        Raises:
            StopAsyncIteration: the stream has come to its end.
            EventMismatch, StreamGap: as in iteration, and after what came before it.
        """
        if self._obstacle is not None:
            raise self._pop_obstacle()
        shown: list[T] = []
        while True:
            try:
                self._show_all(shown)
                while (batch := self._ahead.popleft() if self._ahead else self._buffer.take_now()) is not None:
                    self._begin(batch)
                    self._show_all(shown)
            except (EventMismatch, StreamGap) as obstacle:
                self._obstacle = obstacle
            if shown:
                return shown
            if self._obstacle is not None:
                raise self._pop_obstacle()
            await self._advance()

    def coalesce(self, interval: Duration) -> Coalesced[T]:
        """Return a view that yields lists of what arrived, at most one per `interval` (a timedelta, or seconds).

        The first list comes at once; nothing is lost; the end or the error comes after the last list. What arrives
        during an interval is bounded by the options' `buffer_bytes`: past it the sender is slowed down.
        """
        return Coalesced(self, interval)

    async def aclose(self) -> None:
        """Stop reading and give the connection back. Iterating on raises ConnectionLost, unless the end was reached."""
        self._buffer.finish(ConnectionLost(f"the stream of {self._name} was closed before its end"))
        self._buffer.clear()
        self._ahead.clear()
        self._plain, self._batch = iter(()), iter(())
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    @abstractmethod
    def _show(self, event: Event) -> T | Literal[Hidden.HIDDEN]:
        """Return what the consumer gets to see of an event."""

    def _begin(self, batch: Batch) -> None:
        """Show this batch next; the one before must be used up."""
        self._batch = iter(batch.events() if isinstance(batch, Run) else batch)

    def _show_all(self, shown: list[T]) -> None:
        """Append what is left of the batch; up to an obstacle, where there is one."""
        before = len(shown)
        shown.extend(map(_DATA, self._plain))
        self._cursor += len(shown) - before
        for event in self._batch:
            self._cursor = event.seq
            item = self._show(event)
            if item is not HIDDEN:
                shown.append(item)

    def _pop_obstacle(self) -> EventMismatch | StreamGap:
        obstacle, self._obstacle = self._obstacle, None
        assert obstacle is not None
        return obstacle

    async def _advance(self) -> None:
        """Begin with the next batch.

        Raises:
            StopAsyncIteration, TaskError: there is none, and how the task ended.
        """
        self._begin(self._ahead.popleft() if self._ahead else await self._arrived())

    async def _arrived(self) -> Batch:
        """Return the next batch of the buffer.

        Raises:
            StopAsyncIteration, TaskError: there is none, and how the task ended.
        """
        if self._reading is None and not self._buffer.is_finished:
            self._start_reading()
        batch = await self._buffer.take()
        if batch is None:
            if (failure := await self._failure_at_end()) is not None:
                raise failure
            raise StopAsyncIteration
        return batch

    async def _failure_at_end(self) -> TaskError | None:
        """Return what the end of the stream raises; None: nothing."""
        return None

    def _start_reading(self) -> None:
        task = self._link.owner.start_reader(self._reader.run(), f"tailplane stream of {self._name}")
        buffer, name = self._buffer, self._name
        # A callback and not a handler in the reader: a task that is cancelled before its first step runs no handler.
        # Neither may refer to this object: it is meant to be collected while the reader still runs.
        task.add_done_callback(lambda done: _tell_end(done, buffer, name))
        weakref.finalize(self, _cancel_from_anywhere, task).atexit = False
        self._reading = task


class TaskStream(Stream[T]):
    """What both kinds of streams of a task have in common: how it ends.

    Attributes:
        task_id: whose stream.
    """

    def __init__(self, link: Link, task_id: str, start: Cursor | str) -> None:
        """Prepare to read; see `TaskSource` for `start`."""
        super().__init__(link, TaskSource(task_id, start))
        self.task_id = task_id
        self._end_is_known = False
        self._failure: TaskError | None = None

    @property
    def cursor(self) -> Cursor:
        """The seq of the last event taken out, hidden ones included; a later stream may start there. 0 at first."""
        return self._cursor

    def _hide(self, event: Event) -> Literal[Hidden.HIDDEN]:
        """Hide what the platform says, but not that events are gone, nor how the task ended.

        Raises:
            StreamGap: here the stream lacks events.
        """
        if is_gap(event):
            raise error_of_gap(event)
        if event.is_terminal:
            self._end_is_known = True
            self._failure = error_of_event(self.task_id, event)
        return HIDDEN

    async def _failure_at_end(self) -> TaskError | None:
        # The terminal event lies before the cursor the stream was started at: then the task's record tells the end.
        if not self._end_is_known:
            self._failure = error_of_task(await self._link.status(self.task_id))
            self._end_is_known = True
        return self._failure


class EventStream(TaskStream[Event]):
    """The envelopes: seq, time, attempt, type ... and the data, as an instance of its model where that is known.

    With the platform's events the terminal one is the last, and tells how the task ended; `task.gap` stands for events
    that the stream has no more. Without them the iteration raises TaskFailed, TaskCancelled or TaskExpired, and
    StreamGap, so that neither is hidden.
    """

    def __init__(self, link: Link, task_id: str, start: Cursor | str, *, include_platform: bool) -> None:
        """Prepare to read, with or without what the platform says."""
        super().__init__(link, task_id, start)
        self._include_platform = include_platform
        self._end_is_known = include_platform

    def _show(self, event: Event) -> Event | Literal[Hidden.HIDDEN]:
        if event.kind == _PLATFORM:
            return event if self._include_platform else self._hide(event)
        self._link.models.restore(event)
        return event


class ResultStream(TaskStream[Any]):
    """What the workflow wrote, as it was written; what the platform says is hidden.

    When a task gets another attempt, what the one before wrote is superseded. `on_rewind` says what becomes of that:
    `keep` shows all that was written; `notice` also yields a `Rewind` where something is superseded; `drop` leaves
    out what was superseded before the stream was opened, at the price of one more request. What was shown live can't
    be taken back: `Task.snapshots`, `collect` and `text` show each thing once.

    Raises after the last event, unless the task succeeded: TaskFailed, TaskCancelled or TaskExpired. EventMismatch
    comes in the place of an event that does not fit its model, and carries it; StreamGap in the place of events that
    the stream has no more. Both leave the stream where it is: iterating on gives the next event.
    """

    def __init__(self, link: Link, task_id: str, start: Cursor | str, on_rewind: OnRewind = "keep") -> None:
        """Prepare to read."""
        super().__init__(link, task_id, start)
        if on_rewind not in CHOICES:
            raise ValueError(f"on_rewind is one of {', '.join(CHOICES)}, not {on_rewind!r}")
        self._on_rewind = on_rewind
        self._superseded = Superseded()
        self._must_ask = on_rewind == "drop"

    async def _arrived(self) -> Batch:
        if self._must_ask:
            self._superseded = Superseded((await self._link.status(self.task_id)).superseded)
            self._must_ask = False
        return await super()._arrived()

    def _begin(self, batch: Batch) -> None:
        if isinstance(batch, Run) and self._superseded.overlaps(batch.first, batch.first + len(batch) - 1):
            batch = batch.events()
        if isinstance(batch, Run):
            # Its data is what is shown, as it is: neither envelopes nor models come into it.
            self._cursor = batch.first - 1
            self._plain = iter(batch.items)
        else:
            self._batch = iter(batch)

    def _show(self, event: Event) -> Any:
        if event.kind == _PLATFORM:
            return (Rewind.of(event) if self._on_rewind == "notice" else None) or self._hide(event)
        if self._superseded.overlaps(event.seq, event.seq):
            return HIDDEN
        if event.type is not None:
            self._link.models.restore(event)
        return event.data


def _tell_end(reading: asyncio.Task[None], buffer: BatchBuffer, name: str) -> None:
    if reading.cancelled():
        buffer.finish(ConnectionLost(f"the client was closed before the end of the stream of {name}"))
    else:
        error = reading.exception()
        buffer.finish(error if error is None or isinstance(error, Exception) else ConnectionLost(repr(error)))


def _cancel_from_anywhere(reading: asyncio.Task[None]) -> None:
    # Garbage collection may run on any thread, also after the loop was closed.
    if not reading.done():
        with contextlib.suppress(RuntimeError):
            reading.get_loop().call_soon_threadsafe(reading.cancel)
