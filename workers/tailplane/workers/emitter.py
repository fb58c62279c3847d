"""One attempt's events on their way from the workflow's threads to the platform thread.

Workflows call `write` from any thread; the writer takes what has gathered, a whole batch at a time. Nothing here does
I/O or blocks: a lock is held for the few instructions that move events. What the task is to remember (a step, a
message that it got) goes the same way, as a `Commit`: an event with fields of the record, which Redis takes together.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tailplane.broker import Append, Begun, Cut
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import BufferFull, TailplaneError, TaskLost, TooLarge
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.ids import EntryId
from tailplane.protocol.ranges import joined
from tailplane.workers.branches import Branch
from tailplane.workers.budget import Budget, Share
from tailplane.workers.commits import Commits, Done, Fields, fields_of, tell
from tailplane.workers.joint import Joint
from tailplane.workers.room import Room, Waiters, wake_all

_WAIT = "use `await ctx.emit(...)`, which waits for room"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, in bytes of msgpack.

    Attributes:
        event: of one event.
        entry: of one entry.
        task: of what a task holds unsent.
        emit: of what it holds unsent before `emit` waits.
        output: of all that an attempt writes.
        events: how many events a task's stream may have, over all attempts.
        logs: how many records of an attempt's log become events.
        calls: how many durable calls a task may make; a number.
    """

    event: int
    entry: int
    task: int
    emit: int
    output: int = sys.maxsize
    events: int = sys.maxsize
    logs: int = sys.maxsize
    calls: int = sys.maxsize


def _ignore() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom an emitter tells.

    Attributes:
        ring: the writer, that it holds something; from any thread.
        lost: its attempt, why it can't go on.
        begun: its attempt, that Redis has taken its first entry; once.
        full: whoever counts, that a write was refused for want of room; from any thread.
    """

    ring: "Callable[[Emitter], None]"
    lost: Callable[[TailplaneError], None]
    begun: Callable[[], None] = _ignore
    full: Callable[[], None] = _ignore


class Sealed(NamedTuple):
    """What is left when an attempt is over: events, and what the record gets with them."""

    events: list[bytes]
    fields: Fields


class Emitter:
    """The buffer of one attempt.

    `write` and `room` belong to the workflow's side; `take`, `taken`, `lose` and `seal` to the platform's.
    Sequence numbers are given when events are taken, in the order in which they were written.

    Args:
        budget: what all attempts of the process may hold beyond the `emit` bound of each; None: as much as they like.
        coalesces: past the `emit` bound, texts of one channel are joined into one event.
        keep_last: how many of the stream's last events are kept at least; None: all.

    Attributes:
        entries: how many entries its stream has.
        main: what notes the events of those who have no branch of their own; None: nobody does.
        room: whether there is any below the `emit` bound.
        idle: set while nothing is in flight.
    """

    def __init__(
        self,
        begun: Begun,
        limits: Limits,
        hooks: Hooks,
        budget: Budget | None = None,
        *,
        coalesces: bool = False,
        keep_last: int | None = None,
    ) -> None:
        self.task = begun.opening.task
        self.attempt = begun.attempt
        self.workflow = begun.record.workflow
        self._worker = begun.record.worker_id
        self.seq = begun.seq
        self._first = begun.seq + 1
        self.main: Branch | None = None
        self._commits = Commits()
        self.entries = begun.entries
        self._limits = limits
        self._hooks = hooks
        self._lock = threading.Lock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._pending: list[bytes] = []
        # What only the latest of is sent, and needs no room for that; see `replace_latest`.
        self._latest: tuple[bytes, Branch | None] | None = None
        self._unsent = 0
        self._in_flight = 0
        self._is_rung = False
        self.room = Room(self._lock)
        self._closed: TailplaneError | None = None
        # What may be unsent without any bound being near: one comparison for every event. -1: look closely.
        self._enough = self._plenty = min(limits.event, limits.task, limits.emit - 1)
        self._share = Share(budget or Budget(sys.maxsize), limits.emit + limits.event)
        self._coalesces = coalesces
        self._joint: Joint | None = None
        self._keep_last = keep_last
        # Where the stream was cut last; it is not cut before what this attempt has written.
        self._cut_at = begun.seq
        self._taken_bytes = 0
        self._spent: TooLarge | None = None
        self._has_begun = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def written(self) -> Cursor:
        """The seq of the last event that was written, whether it was taken or not. With the lock held."""
        return self.seq + len(self._pending)

    def write(self, data: object, channel: str | None = None, branch: Branch | None = None) -> None:
        """Append an event, of a branch of the workflow. Thread-safe, O(1), never waits.

        What a branch wrote up to its last step stands in the stream: its code runs again, and nothing is written again.

        Raises:
            Unserialisable: msgpack can't carry `data`.
            TooLarge: the event is over its limit, or the task over those of its whole output.
            BufferFull: Redis has not taken what was written before; nothing was appended.
            TaskLost: the attempt is over: cancelled, timed out or taken over.
        """
        # As `is_replayed`, without the call.
        if (who := branch or self.main) is not None and who.is_replayed:
            return
        packed = pack_event(data, channel, None if branch is None else branch.step)
        size = len(packed)
        # Not `with`, which costs twice as much: this is called for every event.
        self._acquire()
        try:
            unsent = self._unsent + size
            if unsent <= self._plenty:
                self._pending.append(packed)
                self._unsent = unsent
                # Asked for again: it may have been adopted meanwhile.
                if branch is not None or self.main is not None:
                    self._note(branch)
            else:
                self._write_closely(packed, data, channel, branch)
            if self._is_rung:
                return
            self._is_rung = True
        finally:
            self._release()
        self._hooks.ring(self)

    def _note(self, branch: Branch | None) -> None:
        """Let who wrote the event that was put into the buffer last know its seq. With the lock held."""
        if (branch := branch or self.main) is not None:
            branch.note(self.written)

    def commit(
        self,
        make: Callable[[Cursor], tuple[bytes, Fields]],
        done: Done | None = None,
    ) -> None:
        """Append an event with which the record gets fields. Thread-safe, O(1), never waits.

        Args:
            make: returns the packed event and the fields, of the event's seq; called with the lock held.
            done: told on the platform's loop that Redis has taken both, or why it won't.
        Raises:
            TaskLost, TooLarge: as `write`.
        """
        with self._lock:
            if refusal := self._closed or self._spent:
                raise refusal
            self._end_joint()
            # First: what can't be made must not count.
            packed, fields = make(self.written + 1)
            self._pending.append(packed)
            self._unsent += len(packed)
            self._commits.add(self.written, fields, done)
            if self._unsent >= self._limits.emit:
                self.room.is_there = False
            rings, self._is_rung = not self._is_rung, True
        if rings:
            self._hooks.ring(self)

    def adopt(self, branch: Branch) -> None:
        """Let a branch note what those write who have none, and what this attempt has written so far. Thread-safe."""
        with self._lock:
            self._end_joint()
            if self.main is None:
                self.main = branch
                branch.note_all(self._first, self.written)

    def join(self, branch: Branch, parts: Iterable[Branch]) -> None:
        """Let a branch answer for what its parts have written since their last durable calls. Thread-safe."""
        with self._lock:
            self._end_joint()
            branch.runs = joined([*branch.runs, *(each for part in parts for each in part.take_runs())])

    def write_if_roomy(self, packed: bytes, branch: Branch | None = None) -> bool:
        """Append a packed event where no bound is near; return whether that was so.

        Thread-safe; neither waits nor raises.
        """
        with self._lock:
            unsent = self._unsent + len(packed)
            if unsent > self._plenty:
                return False
            self._pending.append(packed)
            self._unsent = unsent
            self._note(branch)
            rings, self._is_rung = not self._is_rung, True
        if rings:
            self._hooks.ring(self)
        return True

    def replace_latest(self, packed: bytes, branch: Branch | None = None) -> None:
        """Put a packed event, a small one, in the place of the one that came this way before and was not sent yet.

        It goes out behind the events of the next entry, whatever waits. Thread-safe, never waits. Where the task has as
        many events as it may, it is dropped.

        Raises:
            TaskLost: the attempt is over.
        """
        with self._lock:
            if self._closed:
                raise self._closed
            if self._spent:
                return
            self._latest = packed, branch
            rings, self._is_rung = not self._is_rung, True
        if rings:
            self._hooks.ring(self)

    def _write_closely(self, packed: bytes, data: object, channel: str | None, branch: Branch | None) -> None:
        """Append an event where a bound may be near. With the lock held."""
        limits, size = self._limits, len(packed)
        if size > limits.event:
            raise TooLarge(f"the event has {size} bytes, {limits.event} are allowed", size=size)
        if self._closed:
            raise self._closed
        if self._spent:
            raise self._spent
        self._claim_room(size)
        if self._coalesces and isinstance(data, str) and (self._joint or self._unsent + size >= limits.emit):
            if self._joint is None or not self._joint.takes(channel, branch, size, limits.event):
                self._end_joint()
                self._joint, self._plenty = Joint(channel, branch), -1
            self._unsent += self._joint.add(data, size)
        else:
            # What is written later comes later.
            self._end_joint()
            self._pending.append(packed)
            self._unsent += size
            self._note(branch)
        if self._unsent >= limits.emit:
            self.room.is_there = False

    def _claim_room(self, size: int) -> None:
        unsent = self._unsent + size
        if unsent > self._limits.task:
            self._hooks.full()
            raise BufferFull(
                f"{self._unsent} bytes of events wait for Redis, {self._limits.task} are allowed", hint=_WAIT
            )
        if not self._share.takes(unsent):
            self._hooks.full()
            raise BufferFull(
                "the events of all tasks of this worker that wait for Redis are "
                f"{self._share.budget.size} bytes beyond what each may hold by itself, and no more are allowed",
                hint=_WAIT,
            )

    def _end_joint(self) -> None:
        """Make one event of the texts that were joined. With the lock held."""
        if (joint := self._joint) is None:
            return
        packed = joint.packed()
        self._pending.append(packed)
        self._unsent += len(packed) - joint.size
        self._joint = None
        self._note(joint.branch)
        if not (self._closed or self._spent):
            self._plenty = self._enough

    def _add_latest(self) -> None:
        """Make it the last of what is pending. With the lock held."""
        if self._latest is not None:
            (packed, branch), self._latest = self._latest, None
            self._pending.append(packed)
            self._unsent += len(packed)
            self._note(branch)

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
            self._count(size)
            fields = self._commits.take(self.seq)
        return Append(
            self.task, EntryId(self.attempt, self.seq), join_events(batch), self.entries, self._worker, fields
        )

    def _count(self, size: int) -> None:
        limits = self._limits
        self._taken_bytes += size
        if self.seq >= limits.events:
            self._spend(f"the task has {self.seq} events, {limits.events} are allowed")
        elif self._taken_bytes >= limits.output:
            self._spend(f"the attempt has written {self._taken_bytes} bytes of events, {limits.output} are allowed")

    def _spend(self, reason: str) -> None:
        self._spent = TooLarge(reason, hint="keep large results in a store of their own, and write where they are")
        self._plenty = -1

    def _cut(self) -> tuple[list[bytes], int]:
        self._end_joint()
        self._add_latest()
        size = self._unsent - self._in_flight
        most = self._commits.most_events(self.seq, self._limits.entry)
        if size <= self._limits.entry and most == sys.maxsize:
            batch, self._pending = self._pending, []
            return batch, size
        size = count = 0
        for packed in self._pending:
            if count and (count >= most or size + len(packed) > self._limits.entry):
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
            waiters: Waiters = ()
            if self._unsent < self._limits.emit:
                self._share.give_back()
                waiters = self.room.open()
            committed = self._commits.taken()
        self.idle.set()
        wake_all(waiters)
        tell(committed, None)
        if not self._has_begun:
            self._has_begun = True
            self._hooks.begun()

    @property
    def unsent_bytes(self) -> int:
        """How many bytes Redis has not taken yet. Thread-safe."""
        return self._unsent

    def cut(self) -> Cut | None:
        """Return where the stream is to be cut; None: not now.

        Once for each eighth of what is kept: to cut costs a command.
        """
        if self._keep_last is None or self.seq - self._keep_last - self._cut_at < max(1, self._keep_last // 8):
            return None
        self._cut_at = self.seq - self._keep_last
        return Cut(self.task, EntryId(self.attempt, self._cut_at + 1), self.entries)

    def lose(self, reason: TailplaneError) -> None:
        """Refuse all further writes with `reason`, and drop what was not sent: it can't be appended any more."""
        with self._lock:
            waiters = self._close(reason)
            self._pending.clear()
            refused = self._commits.drop()
            self._joint = self._latest = None
            self._unsent = self._in_flight = 0
            self._share.give_back()
            # The stream does not end where this attempt believes, or is another's: a cut could leave nothing of it.
            self._keep_last = None
        self.idle.set()
        wake_all(waiters)
        tell(refused, reason)
        self._hooks.lost(reason)

    def _close(self, reason: TailplaneError) -> Waiters:
        """Refuse all further writes, with the first reason; return who waits for room. With the lock held."""
        self._closed = self._closed or reason
        self._plenty = -1
        return self.room.open()

    async def seal(self) -> Sealed:
        """Refuse all further writes; return what is left for the attempt's last entry.

        Returns when nothing is in flight any more. What is left may exceed the bound of an entry by none: the rest
        is sent before.
        """
        with self._lock:
            waiters = self._close(TaskLost("the attempt is over: its stream takes no more events"))
        # Their room never comes; they are told when they write.
        wake_all(waiters)
        while True:
            await self.idle.wait()
            with self._lock:
                if self._in_flight:
                    continue
                self._end_joint()
                self._add_latest()
                most = self._commits.most_events(self.seq, self._limits.entry)
                if sum(map(len, self._pending)) <= self._limits.entry and most == sys.maxsize:
                    rest, self._pending = self._pending, []
                    left = self._commits.drop()
                    self._share.give_back()
                    break
            self._hooks.ring(self)
            # The writer has been rung and takes the next entry on this loop: let it.
            self.idle.clear()
        # Whether Redis takes them shows when the attempt ends: who still waits for them has no say in that.
        tell(left, TaskLost("the attempt is over"))
        return Sealed(rest, fields_of(left))


def is_replayed(branch: Branch | None, emitter: Emitter) -> bool:
    """Whether what is written now stands in the stream already, from an earlier attempt."""
    branch = branch or emitter.main
    return branch is not None and branch.is_replayed
