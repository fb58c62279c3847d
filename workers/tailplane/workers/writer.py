"""Group commit: sends the events of all attempts of this process to Redis, on the platform thread.

While one pipeline is in flight new events gather; the next flush packs them, one entry per task. An idle system sends
at once, a busy one sends large entries, and one with many tasks that can't keep up gathers for longer. At most one
entry of a task is in a pipeline: if Redis took the second but not the first, there would be a hole in the stream.
Each shard of the store has a lane of its own, so that one which does not answer holds up its own tasks only.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import TypeVar

import structlog

from tailplane.broker import Append, Cut, EventLog, Outage, Refusal
from tailplane.broker.event_log import SCRIPT_BYTES, SCRIPT_ENTRIES
from tailplane.broker.logs import Facts, whose
from tailplane.protocol.errors import StoreUnavailable, TaskLost
from tailplane.workers.counts import Written
from tailplane.workers.emitter import Emitter
from tailplane.workers.kept import EventsLost, Kept
from tailplane.workers.patience import patiently, telling_of_refusals

log = structlog.get_logger("tailplane.workers")

T = TypeVar("T")

# What one flush may hold: a reply is awaited before the next. Many tasks take turns, in the order of their ringing.
_FLUSH_ENTRIES = SCRIPT_ENTRIES
_FLUSH_BYTES = SCRIPT_BYTES
# A full flush that took longer than `_SOON` seconds is followed by a rest of `_REST`.
_SOON, _REST = 0.002, 0.004
# Seconds between two tries while Redis is away, at the most: each sends a whole flush.
_LONGEST_PAUSE = 1.0


class _Lane:
    """The emitters whose streams one server has, in the order of their ringing, each once, and what sends for them."""

    def __init__(self, writer: "Writer") -> None:
        self._writer = writer
        self._log = writer.event_log
        self._kept = writer.kept
        self._emitters: deque[Emitter] = deque()

    def take_in(self, emitter: Emitter) -> None:
        """Send for an emitter that no lane has."""
        self._writer.seated.add(emitter)
        self._emitters.append(emitter)

    async def serve(self) -> None:
        """Send until nothing is left."""
        loop = asyncio.get_running_loop()
        while batch := self._gather():
            begun = loop.time()
            await self._send(batch)
            took = loop.time() - begun
            if len(batch) >= _FLUSH_ENTRIES and took > _SOON:
                # As long as the machine keeps up, this is not reached. Where it does not, each event of each task would
                # go its way alone, at a cost that makes all later still: gathered, two or three go at once. Short rests
                # after small flushes keep readers busy meanwhile; long ones would let them idle, and then swamp them.
                await asyncio.sleep(_REST)

    def _gather(self) -> list[tuple[Emitter, Append]]:
        batch: list[tuple[Emitter, Append]] = []
        size = 0
        while self._emitters and len(batch) < _FLUSH_ENTRIES and size < _FLUSH_BYTES:
            emitter = self._emitters.popleft()
            if append := emitter.take():
                batch.append((emitter, append))
                size += len(append.payload)
            else:
                self._writer.seated.discard(emitter)
        # They stay until they are found empty: more may have gathered, or did not fit.
        self._emitters.extend(emitter for emitter, _ in batch)
        return batch

    async def _send(self, batch: list[tuple[Emitter, Append]]) -> None:
        appends = [append for _, append in batch]
        # Not the loop's own clock, which counts in milliseconds.
        begun = time.monotonic()
        outcome = await self._append(appends)
        took = time.monotonic() - begun
        taken = [append for append, no in zip(appends, outcome, strict=True) if no is None]
        self._writer.written.note_flush(taken, took)
        for (emitter, append), refusal in zip(batch, outcome, strict=True):
            if refusal is None:
                self._note_taken(emitter, append)
            else:
                with Facts(**whose(emitter.task), workflow=emitter.workflow, attempt=emitter.attempt):
                    await self._settle(emitter, append, refusal)
        await self._cut([(emitter, cut) for emitter, _ in batch if (cut := emitter.cut())])

    async def _cut(self, cuts: list[tuple[Emitter, Cut]]) -> None:
        if not cuts:
            return
        try:
            lengths = await self._log.trim([cut for _, cut in cuts])
        except StoreUnavailable as error:
            # They are cut the next time, and before the next entry their length is looked at. Of an outage that entry
            # tells; what is refused to cuts alone, nothing else would.
            self._writer.note_uncut(error)
            return
        for (emitter, _), entries in zip(cuts, lengths, strict=True):
            if entries is not None:
                emitter.entries = entries

    def _note_taken(self, emitter: Emitter, append: Append, entries: int | None = None) -> None:
        self._kept.add(append)
        emitter.taken(entries)

    async def _settle(self, emitter: Emitter, append: Append, refusal: Refusal | None) -> None:
        """See to an entry that Redis did not take at once."""
        while refusal is not None:
            if refusal.means_already_there(append.id):
                self._writer.written.note_taken([append])
                self._note_taken(emitter, append, refusal.entries)
                return
            log.warning(
                "entry refused",
                entry=str(append.id),
                tail=str(refusal.tail),
                reason=refusal.reason,
            )
            if refusal.means_fenced(append.id):
                self._writer.written.fenced += 1
                emitter.lose(TaskLost(f"task {emitter.task.task_id} is no longer held by attempt {emitter.attempt}"))
                return
            try:
                entries = await self._patiently(partial(self._kept.repair, emitter.task, append.id.fence, append.after))
            except (EventsLost, TaskLost) as error:
                emitter.lose(error)
                return
            append = append._replace(entries=entries)
            (refusal,) = await self._append([append])
        self._writer.written.note_taken([append])
        self._note_taken(emitter, append, append.entries + 1)

    async def _append(self, appends: list[Append]) -> list[Refusal | None]:
        # Sent again as they are: those that had arrived are refused, and told from a fence by the stream's tail.
        return await self._patiently(partial(self._log.append, appends))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await patiently(call, partial(self._writer.outage.noticed, part=self), _LONGEST_PAUSE)
        finally:
            # Also where it was found that the task is lost: Redis has said so.
            self._writer.outage.over(self)


class Writer:
    """Takes what emitters hold and appends it, exactly once each, until it is cancelled.

    Attributes:
        written: what came of it, in numbers.
        outage: whether Redis takes nothing, or one of its shards.
        seated: the emitters that have a lane: from their ringing until they are found empty, so that no other lane
            takes from them meanwhile, wherever their slot goes.
        note_uncut: told why streams could not be cut.
    """

    def __init__(self, event_log: EventLog, kept: Kept) -> None:
        self.event_log = event_log
        self.kept = kept
        self.written = Written()
        self.outage = Outage("events")
        self.seated: set[Emitter] = set()
        self.note_uncut = telling_of_refusals("Redis refuses to cut streams: they grow")
        self._loop = asyncio.get_running_loop()
        self._rung: deque[Emitter] = deque()
        self._is_awake = False
        self._lanes: dict[Hashable, _Lane] = {}
        self._group: asyncio.TaskGroup | None = None
        # That of the thread: a lane is first needed in an attempt's, and outlives it.
        self._context = contextvars.copy_context()

    def ring(self, emitter: Emitter) -> None:
        """Note that `emitter` has events to send. Thread-safe, does not wait."""
        self._rung.append(emitter)
        # A stale True is safe: `_seat` puts it to False before it looks into the deque.
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon_threadsafe(self._seat)

    async def run(self) -> None:
        """Send what is rung for, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for shard in self._lanes:
                self._start(shard)
            try:
                await asyncio.Event().wait()
            finally:
                # What is rung for from now on, nobody sends.
                self._group = None

    def _seat(self) -> None:
        """Give each emitter that rang its lane."""
        self._is_awake = False
        while self._rung:
            emitter = self._rung.popleft()
            if emitter not in self.seated:
                self._lane(emitter).take_in(emitter)

    def _lane(self, emitter: Emitter) -> _Lane:
        shard = self.event_log.shard(emitter.task)
        if shard not in self._lanes:
            self._lanes[shard] = _Lane(self)
            self._start(shard)
        return self._lanes[shard]

    def _start(self, shard: Hashable) -> None:
        if self._group is not None:
            self._group.create_task(self._serve(shard), context=self._context.copy())

    async def _serve(self, shard: Hashable) -> None:
        await self._lanes[shard].serve()
        # A shard may be gone for good: what is rung for next makes a lane anew.
        del self._lanes[shard]
