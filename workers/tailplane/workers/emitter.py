"""One attempt's events on their way from the workflow's threads to the platform thread.

Workflows call `write` from any thread; the writer takes what has gathered, a whole batch at a time. Nothing here does
I/O or blocks: a lock is held for the few instructions that move events.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tailplane.broker import Append, Begun
from tailplane.protocol.errors import BufferFull, TailplaneError, TaskLost, TooLarge
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.ids import EntryId

# Who waits for room, and on which loop.
_Waiter: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in bytes of msgpack: of one event, of one entry, of what a task holds unsent, and where `emit` waits."""

    event: int
    entry: int
    task: int
    emit: int


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom an emitter tells: the writer, from any thread, that it holds something; its attempt, why it can't go on."""

    ring: "Callable[[Emitter], None]"
    lost: Callable[[TailplaneError], None]


class Emitter:
    """The buffer of one attempt.

    `write` and `wait_for_room` belong to the workflow's side; `take`, `taken`, `lose` and `seal` to the platform's.
    Sequence numbers are given when events are taken, in the order in which they were written.

    Attributes:
        entries: how many entries its stream has.
        has_room: whether `emit` need not wait; also once nothing more is taken, which `write` says.
        idle: set while nothing is in flight.
    """

    def __init__(self, begun: Begun, limits: Limits, hooks: Hooks) -> None:
        self.task = begun.opening.task
        self.attempt = begun.attempt
        self.seq = begun.seq
        self.entries = begun.entries
        self._limits = limits
        self._hooks = hooks
        self._lock = threading.Lock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._pending: list[bytes] = []
        self._unsent = 0
        self._in_flight = 0
        self._is_rung = False
        self.has_room = True
        self._closed: TailplaneError | None = None
        # What may be unsent without any bound being near: one comparison for every event. -1 once it is closed.
        self._plenty = min(limits.event, limits.task, limits.emit - 1)
        self._waiters: list[_Waiter] = []
        self.idle = asyncio.Event()
        self.idle.set()

    def write(self, data: object, channel: str | None = None, step: str | None = None) -> None:
        """Append an event. Thread-safe, O(1), never waits.

        Raises:
            Unserialisable: msgpack can't carry `data`.
            TooLarge: the event is over its limit.
            BufferFull: Redis has not taken what was written before; nothing was appended.
            TaskLost: the attempt is over: cancelled, timed out or taken over.
        """
        packed = pack_event(data, channel, step)
        size = len(packed)
        # Not `with`, which costs twice as much: this is called for every event.
        self._acquire()
        try:
            unsent = self._unsent + size
            if unsent > self._plenty:
                self._look_closely(size, unsent)
            self._pending.append(packed)
            self._unsent = unsent
            if self._is_rung:
                return
            self._is_rung = True
        finally:
            self._release()
        self._hooks.ring(self)

    def _look_closely(self, size: int, unsent: int) -> None:
        """Decide on an event of `size` bytes that would make the unsent `unsent`. With the lock held."""
        limits = self._limits
        if size > limits.event:
            raise TooLarge(f"the event has {size} bytes, {limits.event} are allowed", size=size)
        if self._closed:
            raise self._closed
        if unsent > limits.task:
            raise BufferFull(
                f"{self._unsent} bytes of events wait for Redis, {limits.task} are allowed",
                hint="use `await ctx.emit(...)`, which waits for room",
            )
        if unsent >= limits.emit:
            self.has_room = False

    async def wait_for_room(self) -> None:
        """Return when less than the `emit` bound is unsent."""
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                # Looked at under the lock: room that is made after this look finds the waiter.
                if self.has_room:
                    return
                future = loop.create_future()
                self._waiters.append((loop, future))
            await future

    def take(self) -> Append | None:
        """Return the next entry to send, of all that has gathered up to the bound of an entry; None: nothing.

        What was taken counts as in flight until `taken` or `lose`.
        """
        with self._lock:
            batch, size = self._cut()
            if not batch:
                self._is_rung = False
                return None
            self._in_flight = size
            self.idle.clear()
        self.seq += len(batch)
        return Append(self.task, EntryId(self.attempt, self.seq), join_events(batch), self.entries)

    def _cut(self) -> tuple[list[bytes], int]:
        size = self._unsent - self._in_flight
        if size <= self._limits.entry:
            batch, self._pending = self._pending, []
            return batch, size
        size = count = 0
        for packed in self._pending:
            if count and size + len(packed) > self._limits.entry:
                break
            size += len(packed)
            count += 1
        batch = self._pending[:count]
        del self._pending[:count]
        return batch, size

    def taken(self, entries: int | None = None) -> None:
        """Note that Redis has taken what was in flight, and how many entries the stream has now; None: one more."""
        self.entries = self.entries + 1 if entries is None else entries
        with self._lock:
            self._unsent -= self._in_flight
            self._in_flight = 0
            if self._unsent < self._limits.emit:
                self.has_room = True
            waiters, self._waiters = (self._waiters, []) if self.has_room else ([], self._waiters)
        self.idle.set()
        _wake(waiters)

    def lose(self, reason: TailplaneError) -> None:
        """Refuse all further writes with `reason`, and drop what was not sent: it can't be appended any more."""
        with self._lock:
            waiters = self._close(reason)
            self._pending.clear()
            self._unsent = self._in_flight = 0
        self.idle.set()
        _wake(waiters)
        self._hooks.lost(reason)

    def _close(self, reason: TailplaneError) -> "list[_Waiter]":
        """Refuse all further writes, with the first reason; return who waits for room. With the lock held."""
        self._closed = self._closed or reason
        self._plenty = -1
        self.has_room = True
        waiters, self._waiters = self._waiters, []
        return waiters

    async def seal(self) -> list[bytes]:
        """Refuse all further writes; return the events that are left for the attempt's last entry.

        Returns when nothing is in flight any more. What is left may exceed the bound of an entry by none: the rest
        is sent before.
        """
        with self._lock:
            waiters = self._close(TaskLost("the attempt is over: its stream takes no more events"))
        # Their room never comes; they are told when they write.
        _wake(waiters)
        while True:
            await self.idle.wait()
            with self._lock:
                if self._in_flight:
                    continue
                if sum(map(len, self._pending)) <= self._limits.entry:
                    rest, self._pending = self._pending, []
                    return rest
            self._hooks.ring(self)
            # The writer has been rung and takes the next entry on this loop: let it.
            self.idle.clear()


def _wake(waiters: list[_Waiter]) -> None:
    for loop, future in waiters:
        loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
