"""What was sent lately: kept to send again what a store that failed over has lost from the end of a stream.

Replication is asynchronous: a replica that is promoted may lack what the primary took last, and told the worker that it
took. All attempts of the process share one bound; a write that is older than what is kept can't be repaired.
"""

from collections import deque

import structlog

from tailplane.broker import Append, TailMismatch, TaskRef, TaskStore
from tailplane.broker.event_log import EventLog
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TailplaneError, TaskLost
from tailplane.protocol.ids import WorkerId

log = structlog.get_logger("tailplane.workers")

# Bytes that an entry takes beside its payload. Those of a token each would else take fourteen times the bound.
_OVERHEAD = 240


class EventsLost(TailplaneError):
    """The store has lost events that are not kept any more.

    Attributes:
        last: the seq of the last event that it has.
    """

    code = "events_lost"
    title = "The store lost events"

    def __init__(self, last: Cursor, believed: Cursor) -> None:
        super().__init__(f"the store lost events {last + 1} to {believed}")
        self.last = last


class Kept:
    """The entries that this worker sent last, up to `most` bytes of memory, about.

    Attributes:
        repaired: entries that were sent again because the store had lost them.
        lost: events that the store lost and that were not kept any more.
    """

    def __init__(self, event_log: EventLog, tasks: TaskStore, worker: WorkerId, most: int) -> None:
        self._log = event_log
        self._tasks = tasks
        self._worker = worker
        self._most = most
        self.repaired = self.lost = 0
        self._bytes = 0
        self._entries: deque[Append] = deque()

    def add(self, entry: Append) -> None:
        """Keep an entry that the store has taken, and let the oldest go."""
        self._entries.append(entry)
        self._bytes += _size(entry)
        while self._bytes > self._most:
            self._bytes -= _size(self._entries.popleft())

    async def repair(self, task: TaskRef, attempt: int, believed: Cursor) -> int:
        """Give a stream that should end at `believed` back what it has lost; return how many entries it has then.

        Raises:
            EventsLost: something of it is not kept any more. What follows the stream's end without a hole was given
                back all the same, and the record names the attempt again, so that it can end the task.
            TaskLost: the attempt does not hold the task.
            StoreUnavailable: Redis does not answer; again, please.
        """
        while True:
            newest = await self._log.newest_entry(task)
            if newest is None:
                raise TaskLost(f"task {task.task_id} was removed")
            if newest.id.seq > believed:
                raise TaskLost(f"the stream of task {task.task_id} goes on without attempt {attempt}")
            missing = self._behind(task, attempt, newest.id.seq)
            try:
                entries = await self._tasks.repair(task, attempt, self._worker, newest.id, missing)
            except TailMismatch:
                continue
            if missing:
                self.repaired += len(missing)
                log.warning("the store lost events; they were sent again", entries=len(missing))
            last = missing[-1].id.seq if missing else newest.id.seq
            if last < believed:
                self.lost += believed - last
                raise EventsLost(last, believed)
            return entries

    def _behind(self, task: TaskRef, attempt: int, last: Cursor) -> list[Append]:
        """Return what follows `last` without a hole."""
        found: list[Append] = []
        for entry in self._entries:
            if entry.task == task and entry.id.fence == attempt and entry.after == last:
                found.append(entry)
                last = entry.id.seq
        return found


def _size(entry: Append) -> int:
    return len(entry.payload) + sum(map(len, entry.fields)) + _OVERHEAD
