"""How an attempt begins: what `begin.lua` is asked, and what its answers mean. No I/O: `TaskStore.begin` asks.

Nearly all tasks have one attempt, and it begins at once. Where there were others, the script says so instead, and is
asked again with an opening that tells of them: whose worker was lost, why the task was given back, and which of their
events stand no more. It does nothing until the opening fits the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tailplane.broker.event_log import Append
from tailplane.broker.keys import TaskRef
from tailplane.broker.records import TaskRecord, running_record
from tailplane.protocol import events, ranges
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TaskNotFound
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, WorkerId
from tailplane.protocol.states import State, TransitionRefused, Trigger

_RUNNING = State.RUNNING.value.encode()
# Why an attempt is followed by another one, by what gave the task back.
_WAITED = Trigger.WAIT.value.encode()
_REASONS = {
    Trigger.RETRY.value.encode(): "failed",
    Trigger.HAND_BACK.value.encode(): "handed_back",
    _WAITED: "waited",
}


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that has begun.

    Attributes:
        opening: the entry that says so; the workflow's follow.
        entries: how many entries the stream has with it.
    """

    record: TaskRecord
    opening: Append
    entries: int

    @property
    def attempt(self) -> int:
        """Which attempt of the task it is: 1, 2, 3, ..."""
        return self.opening.id.fence

    @property
    def seq(self) -> int:
        """The seq of the last event of the opening."""
        return self.opening.id.seq


class StartTooLate(Exception):
    """The task's start deadline has passed."""


class TimeIsUp(Exception):
    """The task has taken as long as it may; `attempt` is its latest."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        super().__init__(f"its time was up after attempt {attempt}")


class HolderLost(Exception):
    """Another worker was lost while it ran the task's latest attempt, `attempt`."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        super().__init__(f"the worker of attempt {attempt} was lost")


@dataclass(frozen=True, slots=True)
class Opening:
    """How an attempt begins.

    Attributes:
        trigger: the move it makes.
        packed: its first events.
        latest: the attempt that must be the latest so far; -1: any.
        given_back_by: the trigger that must have given the task back before; empty: none, `*`: any.
        stand: the events of earlier attempts that must be those that stand, as the record has them.
    """

    trigger: Trigger
    packed: Sequence[bytes]
    latest: int = -1
    given_back_by: bytes = b""
    stand: bytes = b""


@dataclass(frozen=True, slots=True)
class _Left:
    """What earlier attempts have left in the stream.

    Attributes:
        stand: the ranges of what they wrote and sealed, as the record has them.
        superseded: the seq up to which an earlier beginning has taken back the others.
        last: the seq of the stream's last event.
    """

    stand: bytes = b""
    superseded: Cursor = 0
    last: Cursor | None = None

    def rewind(self, reason: str) -> list[bytes]:
        """Return the event that takes back what does not stand; none where that is nothing."""
        stand = ranges.unpack(self.stand)
        to = stand[-1][1] if stand else 0
        # Written beside steps that have finished, by one that has not.
        also = ranges.holes(stand, self.superseded + 1, to)
        if reason == _REASONS[_WAITED] and to == self.last and not also:
            return []
        data: dict[str, Any] = {"to": to, "reason": reason}
        if also:
            data["also"] = also
        return [events.pack_platform_event(PlatformType.REWIND, data)]


class Beginning:
    """One attempt on its way to its beginning. The arguments are those of `TaskStore.begin`.

    Attributes:
        opening: what to ask for next.
    """

    def __init__(self, task: TaskRef, worker: WorkerId, host: str, *, takes_over: bool, has_run: bool) -> None:
        self._task = task
        self._worker = worker
        self._takes_over = takes_over
        self._has_run = has_run
        self._started = events.pack_platform_event(PlatformType.STARTED, {"worker_id": worker, "host": host})
        self._left = _Left()
        self._reason = ""
        self._lost: list[bytes] = []
        self.opening = Opening(Trigger.BEGIN, [self._started])

    def take(self, reply: Sequence[Any]) -> Begun | None:
        """Take an answer; return the attempt if it has begun, None where to ask again.

        Raises:
            As `TaskStore.begin`.
        """
        match reply:
            case [b"begun", attempt, seq, entries, now, end_by, failures, *row]:
                until = end_by / 1000 or None
                record = running_record(self._task, self._worker, attempt, failures, now / 1000, until, row)
                payload = events.join_events(self.opening.packed)
                return Begun(record, Append(self._task, EntryId(attempt, seq), payload), entries)
            case [b"given_back", by]:
                self._reason, self._lost = _REASONS[by], []
                self.opening = Opening(Trigger.BEGIN, [], given_back_by=by)
            case [b"refused", state, attempt, holder] if state == _RUNNING:
                self._take_over(attempt, holder)
            case [b"stand", stand, superseded, last]:
                self._left = _Left(stand, superseded, last)
            case [b"refused", state, *_]:
                raise TransitionRefused(Trigger.BEGIN, State(state.decode()))
            case [b"late"]:
                raise StartTooLate
            case [b"over", attempt]:
                raise TimeIsUp(attempt)
            case _:
                raise TaskNotFound(f"task {self._task.task_id} was removed", task_id=self._task.task_id)
        rewind = self._left.rewind(self._reason) if self._reason else []
        self.opening = replace(self.opening, packed=[*self._lost, *rewind, self._started], stand=self._left.stand)
        return None

    def _take_over(self, attempt: int, holder: bytes) -> None:
        # One of our own that has not run: its beginning was done, and the reply lost.
        if not self._takes_over and (self._has_run or holder != self._worker.encode()):
            raise HolderLost(attempt)
        data = {"worker_id": holder.decode()}
        self._lost = [events.pack_platform_event(PlatformType.WORKER_LOST, data, attempt=attempt)]
        self._reason = "worker_lost"
        self.opening = Opening(Trigger.TAKE_OVER, [], latest=attempt, given_back_by=b"*")
