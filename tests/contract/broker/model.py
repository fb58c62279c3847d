"""What the broker promises of tasks and of its queue, in lists and numbers: no I/O, no scripts.

`test_state_machine.py` does each thing to the real broker and to this model, and compares the answers and what is left
behind. A refused call raises, or returns, before it changes anything: so the model says that it changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tailplane.broker import HolderLost, LeaseLapsed, Refusal, StartTooLate, TailMismatch, TaskRef
from tailplane.protocol.errors import SessionClosed, SessionNotFound, TaskLost, TaskNotFound
from tailplane.protocol.ids import EntryId, SessionId, TaskId, WorkerId
from tailplane.protocol.states import TRANSITIONS, State, Trigger, move

HOST = "host-1"
VERSION = "7"
# As many of those who asked last are told of a task's end.
MOST_LISTENERS = 4
# Why an attempt is followed by another one.
REASONS = {Trigger.RETRY: "failed", Trigger.HAND_BACK: "handed_back", Trigger.WAIT: "waited"}


class Said(NamedTuple):
    """One event: in which attempt, and what. `type` is None for what the workflow wrote."""

    attempt: int
    type: str | None
    data: Any


class Written(NamedTuple):
    """One entry of a stream. `end` is the state that its last event tells of, where that is terminal."""

    fence: int
    events: list[Said]
    end: State | None = None


class Seen(NamedTuple):
    """What there is of a task, for whoever looks."""

    state: State
    attempt: int
    failures: int
    worker: WorkerId | None
    superseded: int
    given_back_by: str
    kept: dict[str, object]
    has_started: bool
    has_ended: bool
    ids: list[EntryId]
    entries: list[Written]


class SeenQueue(NamedTuple):
    """What there is of the queue: as in `QueueModel`, with what is ripe, the longest due first, and what is listed.

    Attributes:
        listed: the tasks of each session, the newest first; None: all tasks.
        joined: the tasks of each session, in the order in which they joined it.
    """

    leases: dict[WorkerId, bool]
    held: dict[WorkerId, dict[TaskRef, str]]
    due: dict[str, dict[TaskRef, int]]
    ripe: dict[str, list[TaskRef]]
    tokens: dict[str, int]
    listed: dict[SessionId | None, list[TaskId]]
    joined: dict[SessionId, list[TaskId]]


@dataclass(frozen=True, eq=False)
class Finish:
    """How an attempt ends its task or gives it back. What is sent again is the same object.

    Attributes:
        after: the seq at which the stream ends, as the attempt believes.
        kept: what the record gets.
    """

    trigger: Trigger
    attempt: int
    after: int
    events: list[Said]
    kept: Mapping[str, object]


@dataclass(eq=False)
class TaskModel:
    """A task's record and stream.

    Attributes:
        listeners: who is told of its end, the latest first.
        rung, told: what was published since somebody looked: seqs on its bell, and listeners.
    """

    ref: TaskRef
    workflow: str
    listeners: list[str]
    created_at: float = 0
    state: State = State.QUEUED
    attempt: int = 0
    failures: int = 0
    worker: WorkerId | None = None
    superseded: int = 0
    given_back_by: str = ""
    kept: dict[str, object] = field(default_factory=dict)
    entries: list[Written] = field(default_factory=list)
    is_late: bool = False
    is_gone: bool = False
    latest_finish: Finish | None = None
    rung: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries.append(Written(0, [Said(0, "task.queued", {"workflow": self.workflow, "version": VERSION})]))

    def __repr__(self) -> str:
        return f"<task {self.ref.task_id[-2:]}: {self.state}, attempt {self.attempt}>"

    @property
    def ids(self) -> list[EntryId]:
        """An entry's seq is that of its last event."""
        sizes = [len(entry.events) for entry in self.entries]
        return [EntryId(entry.fence, sum(sizes[: i + 1])) for i, entry in enumerate(self.entries)]

    @property
    def events(self) -> list[Said]:
        return [] if self.is_gone else [event for entry in self.entries for event in entry.events]

    @property
    def tail(self) -> EntryId:
        return self.ids[-1]

    def seen(self) -> Seen | None:
        if self.is_gone:
            return None
        return Seen(
            self.state, self.attempt, self.failures, self.worker, self.superseded, self.given_back_by, self.kept,
            self.attempt > 0, self.state.is_terminal, self.ids, self.entries,
        )  # fmt: skip

    def begin(self, worker: WorkerId, takes_over: bool) -> tuple[EntryId, int, int]:
        """Return the entry that begins the attempt, how many there are with it, and the failures so far."""
        if self.is_gone:
            raise TaskNotFound("")
        started = Said(self.attempt + 1, "task.started", {"worker_id": worker, "host": HOST})
        if self.state is State.RUNNING:
            # Whoever ran it is lost, or it is the same worker, which did not hear that it had begun.
            if not takes_over and self.worker != worker:
                raise HolderLost(self.attempt)
            lost = Said(self.attempt, "task.worker_lost", {"worker_id": self.worker})
            opening = [lost, self._rewind("worker_lost"), started]
            to = move(Trigger.TAKE_OVER, self.state)
            self.failures += 1
        else:
            to = move(Trigger.BEGIN, self.state)
            if self.attempt == 0 and self.is_late:
                raise StartTooLate
            opening = [self._rewind(REASONS[Trigger(self.given_back_by)]), started] if self.attempt else [started]
        if self.attempt:
            self.superseded = self.tail.seq
        self.attempt += 1
        self.worker = worker
        self._write(to, self.attempt, opening)
        return self.tail, len(self.entries), self.failures

    def _rewind(self, reason: str) -> Said:
        return Said(self.attempt + 1, "task.rewind", {"to": 0, "reason": reason})

    def append(self, attempt: int, written: list[Said]) -> Refusal | None:
        """Let an attempt write what follows the last event that it knows of; only the one that holds the task may."""
        if self.is_gone or self.state is not State.RUNNING or attempt != self.attempt:
            return self.refusal
        self._write(self.state, attempt, written)
        return None

    @property
    def refusal(self) -> Refusal:
        """What an append is told that is not taken, also one that was taken before."""
        return Refusal(None) if self.is_gone else Refusal(self.tail, len(self.entries))

    def finish(self, finish: Finish) -> State:
        if self.is_gone:
            raise TaskLost("")
        if finish is self.latest_finish:
            return self.state
        if self.state is not State.RUNNING or finish.attempt != self.attempt:
            raise TaskLost("")
        if finish.after != self.tail.seq:
            raise TailMismatch("")
        to = move(finish.trigger, self.state)
        if finish.trigger in (Trigger.RETRY, Trigger.FAIL):
            self.failures += 1
        if not to.is_terminal:
            self.given_back_by = finish.trigger.value
        self.kept |= finish.kept
        self._write(to, finish.attempt, finish.events)
        self.latest_finish = finish
        return self.state

    def end(self, trigger: Trigger, latest: int, last: Said, kept: Mapping[str, object]) -> State | None:
        """End it from outside; `latest` is the attempt that the caller believes to be the latest."""
        if self.is_gone:
            raise TaskNotFound("")
        if self.state.is_terminal:
            return self.state
        if latest != self.attempt or self.state not in TRANSITIONS[trigger]:
            return None
        self.kept |= kept
        # The next fence: what the attempt still writes is refused.
        self._write(move(trigger, self.state), latest + 1, [last])
        return self.state

    def _write(self, state: State, fence: int, events: list[Said]) -> None:
        self.state = state
        self.latest_finish = None
        self.entries.append(Written(fence, events, state if state.is_terminal else None))
        self.rung.append(self.tail.seq)
        if state.is_terminal:
            self.told += self.listeners

    def wait_for(self, listener: str) -> State | None:
        """Return the state of a task that has ended; else `listener` will be told of it."""
        if self.is_gone:
            raise TaskNotFound("")
        if self.state.is_terminal:
            return self.state
        self.listeners = [listener, *(each for each in self.listeners if each != listener)][:MOST_LISTENERS]
        return None


@dataclass
class SessionModel:
    is_closed: bool = False
    # In the order in which they joined; each once.
    tasks: dict[TaskId, None] = field(default_factory=dict)


@dataclass
class QueueModel:
    """Who may run what next. It knows nothing of what becomes of the tasks.

    Attributes:
        due: of each workflow the tasks that wait, and when each is due: ms, 0 until the server's clock has told.
        held: of each worker the tasks it has claimed, with their workflows.
        tokens: of each workflow how many workers its doorbell would wake.
        leases: whether the lease of a worker is alive; one without a lease is not in it.
        requests: what an idempotency key has made.
        doubled: tasks that somebody has queued a second time.
    """

    due: dict[str, dict[TaskRef, int]]
    held: dict[WorkerId, dict[TaskRef, str]]
    tokens: dict[str, int]
    leases: dict[WorkerId, bool] = field(default_factory=dict)
    tasks: set[TaskId] = field(default_factory=set)
    requests: dict[str, tuple[TaskId, str]] = field(default_factory=dict)
    sessions: dict[SessionId, SessionModel] = field(default_factory=dict)
    doubled: set[TaskRef] = field(default_factory=set)

    def seen(self, now: int) -> SeenQueue:
        ripe = {workflow: self.ripe(workflow, now) for workflow in self.due}
        joined = {session: list(model.tasks) for session, model in self.sessions.items()}
        tasks = {None: list(self.tasks)} | joined
        listed = {session: sorted(ids, reverse=True) for session, ids in tasks.items()}
        return SeenQueue(self.leases, self.held, self.due, ripe, self.tokens, listed, joined)

    def places(self, task: TaskRef) -> int:
        """Return in how many places a task is."""
        return sum(task in due for due in self.due.values()) + sum(task in held for held in self.held.values())

    def enqueue(
        self, task: TaskRef, workflow: str, session: SessionId | None, request: tuple[str, str] | None
    ) -> tuple[TaskId, str]:
        """Return the task that stands for the request, and the content of the request that made it."""
        key, content = request or ("", "")
        if key in self.requests:
            return self.requests[key]
        if session:
            if session not in self.sessions:
                raise SessionNotFound("")
            if self.sessions[session].is_closed:
                raise SessionClosed("")
            self.sessions[session].tasks[task.task_id] = None
        if request:
            self.requests[key] = (task.task_id, content)
        if self.places(task):
            self.doubled.add(task)
        self.tasks.add(task.task_id)
        self._give(task, workflow)
        return task.task_id, content

    def _give(self, task: TaskRef, workflow: str) -> None:
        self.due[workflow][task] = 0
        self.tokens[workflow] += 1

    def claim(self, worker: WorkerId, free: int, room: Mapping[str, int], now: int) -> list[tuple[TaskRef, str]]:
        """Take what has been due for longest: of each workflow as it has room, `free` in all."""
        if not self.leases.get(worker):
            raise LeaseLapsed
        found: list[tuple[int, str, TaskRef, str]] = []
        for workflow, most in room.items():
            ripe = [(self.due[workflow][task], task.member, task, workflow) for task in self.ripe(workflow, now)]
            if not ripe:
                # Nobody need come for them.
                self.tokens[workflow] = 0
            found += ripe[:most]
        taken = [(task, workflow) for _, _, task, workflow in sorted(found)[:free]]
        for task, workflow in taken:
            del self.due[workflow][task]
            self.held[worker][task] = workflow
        return taken

    def ripe(self, workflow: str, now: int) -> list[TaskRef]:
        """Return what is due, the longest first."""
        due = self.due[workflow]
        return sorted((task for task in due if due[task] <= now), key=lambda task: (due[task], task.member))

    def acknowledge(self, worker: WorkerId, tasks: Sequence[TaskRef]) -> None:
        for task in tasks:
            self.held[worker].pop(task, None)

    def requeue(self, worker: WorkerId, task: TaskRef, workflow: str) -> bool:
        if self.held[worker].pop(task, None) is None:
            return False
        self._give(task, workflow)
        return True

    def withdraw(self, task: TaskRef, workflow: str, worker: WorkerId | None) -> None:
        self.due[workflow].pop(task, None)
        if worker:
            self.held[worker].pop(task, None)

    def renew(self, worker: WorkerId) -> int:
        """Return how many tasks it holds. A lease that ran out is saved, if nobody has struck the worker off."""
        if worker not in self.leases:
            raise LeaseLapsed
        self.leases[worker] = True
        return len(self.held[worker])

    def reap(self, worker: WorkerId, leaves: bool) -> int:
        """Give back all that a worker holds which has lost its lease, or leaves; -1 if it lives on."""
        if self.leases.get(worker) and not leaves:
            return -1
        self.leases.pop(worker, None)
        held, self.held[worker] = self.held[worker], {}
        for task, workflow in held.items():
            self._give(task, workflow)
        return len(held)
