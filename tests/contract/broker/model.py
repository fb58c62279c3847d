"""What the broker promises of tasks and of its queue, in lists and numbers: no I/O, no scripts.

`test_state_machine.py` does each thing to the real broker and to this model, and compares the answers and what is left
behind. A refused call raises, or returns, before it changes anything: so the model says that it changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tailplane.broker import HolderLost, LeaseLapsed, Refusal, StartTooLate, TailMismatch, TaskRef
from tailplane.broker.claims import IN_TURN
from tailplane.protocol.errors import (
    IdempotencyConflict,
    InboxFull,
    SessionClosed,
    SessionNotFound,
    TaskEnded,
    TaskLost,
    TaskNotFound,
)
from tailplane.protocol.ids import EntryId, SessionId, TaskId, WorkerId
from tailplane.protocol.states import TRANSITIONS, State, Trigger, move

HOST = "host-1"
VERSION = "7"
# As many of those who asked last are told of a task's end.
MOST_LISTENERS = 4
# As many messages an inbox ever gets here.
MOST_MESSAGES = 5
# Why an attempt is followed by another one.
RANKS = (0, 1, 2)
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
    stand: set[int]
    remembered: dict[str, str]
    messages: list[str]
    ids: list[EntryId]
    entries: list[Written]


# A due set: a workflow, and the rank of a class.
Line = tuple[str, int]


class Kept(NamedTuple):
    """A task's terms, as the queue has them. `due`: since when, if it is blocked."""

    rank: int
    key: str | None
    limit: int | None
    due: int | None = None


PLAIN = Kept(1, None, None)


class Blocked(NamedTuple):
    """A task that is due and whose key is full; in this order they are let in."""

    workflow: str
    key: str
    rank: int
    due: int
    member: str


class Holder(NamedTuple):
    """A claim that holds a key, or counts for the bound of a workflow: `/` and its name."""

    key: str
    task: TaskRef
    worker: str


class Limit(NamedTuple):
    """How many may run at once of a key, and which workflows have tasks of it, in no order."""

    limit: int
    workflows: frozenset[str]


class SeenQueue(NamedTuple):
    """What there is of the queue: as in `QueueModel`, with what is ripe, and what is listed.

    Attributes:
        ripe: of each workflow what is due, class by class, the longest first, and then what is blocked.
        depths: of each workflow how many tasks wait.
        listed: the tasks of each session, the newest first; None: all tasks.
        joined: the tasks of each session, in the order in which they joined it.
    """

    leases: dict[WorkerId, bool]
    held: dict[WorkerId, dict[TaskRef, str]]
    due: dict[Line, dict[TaskRef, int]]
    ripe: dict[str, list[TaskRef]]
    depths: dict[str, int]
    tokens: dict[str, int]
    kept: dict[TaskRef, Kept]
    blocked: set[Blocked]
    holders: set[Holder]
    limits: dict[str, Limit]
    parked: dict[TaskRef, str]
    listed: dict[SessionId | None, list[TaskId]]
    joined: dict[SessionId, list[TaskId]]


@dataclass(frozen=True, eq=False)
class Finish:
    """How an attempt ends its task or gives it back. What is sent again is the same object.

    Attributes:
        after: the seq at which the stream ends, as the attempt believes.
        kept: what the record gets.
        stand: the events that stand from then on; None: those that did.
    """

    trigger: Trigger
    attempt: int
    after: int
    events: list[Said]
    kept: Mapping[str, object]
    stand: frozenset[int] | None = None


@dataclass(eq=False)
class TaskModel:
    """A task's record and stream.

    Attributes:
        stand: the seqs that no attempt takes back.
        remembered: what entries brought along for the record.
        messages: its inbox.
        keys: of each idempotency key the number of its message.
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
    stand: frozenset[int] = frozenset()
    remembered: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
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
            self.attempt > 0, self.state.is_terminal, set(self.stand), self.remembered, self.messages, self.ids,
            self.entries,
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
            opening = [lost, *self._rewind("worker_lost"), started]
            to = move(Trigger.TAKE_OVER, self.state)
            self.failures += 1
        else:
            to = move(Trigger.BEGIN, self.state)
            if self.attempt == 0 and self.is_late:
                raise StartTooLate
            opening = [*self._rewind(REASONS[Trigger(self.given_back_by)]), started] if self.attempt else [started]
        if self.attempt:
            self.superseded = self.tail.seq
        self.attempt += 1
        self.worker = worker
        self._write(to, self.attempt, opening)
        return self.tail, len(self.entries), self.failures

    def _rewind(self, reason: str) -> list[Said]:
        """Return what takes back all that does not stand, and was not taken back before; none if that is nothing."""
        to = max(self.stand, default=0)
        back = [seq for seq in range(self.superseded + 1, to + 1) if seq not in self.stand]
        if reason == "waited" and to == self.tail.seq and not back:
            return []
        data: dict[str, Any] = {"to": to, "reason": reason}
        if back:
            begins = [seq for seq in back if seq - 1 not in back]
            data["also"] = [
                [first, last] for first, last in zip(begins, (s for s in back if s + 1 not in back), strict=True)
            ]
        return [Said(self.attempt + 1, "task.rewind", data)]

    def append(
        self, attempt: int, written: list[Said], remembered: Mapping[str, str], stand: frozenset[int] | None
    ) -> Refusal | None:
        """Let an attempt write what follows the last event that it knows of; only the one that holds the task may."""
        if self.is_gone or self.state is not State.RUNNING or attempt != self.attempt:
            return self.refusal
        self._write(self.state, attempt, written)
        self.remembered |= remembered
        self.stand = self.stand if stand is None else stand
        return None

    def deliver(self, message: str, key: str | None) -> tuple[int, bool]:
        """Return the number of a message in the inbox, and whether it is new there."""
        if self.is_gone:
            raise TaskNotFound("")
        if key in self.keys:
            if self.messages[self.keys[key] - 1] != message:
                raise IdempotencyConflict("")
            return self.keys[key], False
        if self.state.is_terminal:
            raise TaskEnded("")
        if len(self.messages) == MOST_MESSAGES:
            raise InboxFull("")
        self.messages.append(message)
        if key is not None:
            self.keys[key] = len(self.messages)
        return len(self.messages), True

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
        self.stand = self.stand if finish.stand is None else finish.stand
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
        due: of each workflow and class the tasks that wait, and when each is due: ms, 0 until the server's clock has
            told.
        held: of each worker the tasks it has claimed, with their workflows.
        keys: of each worker the keys that these hold.
        kept: the terms of those tasks that have any.
        parked: those that wait for a message, with their workflows.
        tokens: of each workflow how many workers its doorbell would wake.
        leases: whether the lease of a worker is alive; one without a lease is not in it.
        requests: what an idempotency key has made.
        doubled: tasks that somebody has queued a second time.
    """

    due: dict[Line, dict[TaskRef, int]]
    held: dict[WorkerId, dict[TaskRef, str]]
    tokens: dict[str, int]
    keys: dict[tuple[WorkerId, TaskRef], str] = field(default_factory=dict)
    kept: dict[TaskRef, Kept] = field(default_factory=dict)
    blocked: set[Blocked] = field(default_factory=set)
    holders: set[Holder] = field(default_factory=set)
    limits: dict[str, Limit] = field(default_factory=dict)
    parked: dict[TaskRef, str] = field(default_factory=dict)
    leases: dict[WorkerId, bool] = field(default_factory=dict)
    tasks: set[TaskId] = field(default_factory=set)
    requests: dict[str, tuple[TaskId, str]] = field(default_factory=dict)
    sessions: dict[SessionId, SessionModel] = field(default_factory=dict)
    doubled: set[TaskRef] = field(default_factory=set)

    def seen(self, now: int) -> SeenQueue:
        ripe = {workflow: self.ripe(workflow, now) for workflow in self.tokens}
        depths = {
            workflow: sum(len(self.due[workflow, rank]) for rank in RANKS) + len(self._blocked(workflow))
            for workflow in self.tokens
        }
        joined = {session: list(model.tasks) for session, model in self.sessions.items()}
        tasks = {None: list(self.tasks)} | joined
        listed = {session: sorted(ids, reverse=True) for session, ids in tasks.items()}
        return SeenQueue(
            self.leases, self.held, self.due, ripe, depths, self.tokens, self.kept, self.blocked, self.holders,
            self.limits, self.parked, listed, joined,
        )  # fmt: skip

    def places(self, task: TaskRef) -> int:
        """Return in how many places a task is."""
        blocked = sum(each.member == task.member for each in self.blocked)
        due, held = (sum(task in place for place in places.values()) for places in (self.due, self.held))
        return due + held + blocked + (task in self.parked)

    def enqueue(
        self,
        task: TaskRef,
        workflow: str,
        session: SessionId | None,
        request: tuple[str, str] | None,
        terms: Kept,
        is_delayed: bool,
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
        if terms != PLAIN:
            self._unblock(task, workflow)
            self.kept[task] = terms
        if terms.key and terms.limit:
            self._note(terms.key, workflow, terms.limit, is_newest=True)
            if not is_delayed and self._count(terms.key) >= terms.limit:
                self._block(task, workflow, terms, 0)
                return task.task_id, content
        self._give(task, workflow, terms.rank)
        return task.task_id, content

    def _give(self, task: TaskRef, workflow: str, rank: int, due: int = 0) -> None:
        self.due[workflow, rank][task] = due
        self.tokens[workflow] += 1

    def _count(self, key: str) -> int:
        return sum(holder.key == key for holder in self.holders)

    def _note(self, key: str, workflow: str, limit: int, *, is_newest: bool = False) -> None:
        known = self.limits.get(key, Limit(limit, frozenset()))
        self.limits[key] = Limit(limit if is_newest else known.limit, known.workflows | {workflow})

    def _block(self, task: TaskRef, workflow: str, terms: Kept, due: int) -> None:
        assert terms.key
        assert terms.limit
        self.kept[task] = terms._replace(due=due)
        self.blocked.add(Blocked(workflow, terms.key, terms.rank, due, task.member))
        self._note(terms.key, workflow, terms.limit)

    def _unblock(self, task: TaskRef, workflow: str) -> bool:
        kept = self.kept.get(task)
        if not kept or not kept.key or kept.due is None:
            return False
        entry = Blocked(workflow, kept.key, kept.rank, kept.due, task.member)
        is_there = entry in self.blocked
        self.blocked.discard(entry)
        self.kept[task] = kept._replace(due=None)
        return is_there

    def _blocked(self, workflow: str) -> list[Blocked]:
        return sorted(each for each in self.blocked if each.workflow == workflow)

    def _admit(self, key: str, most: int) -> int:
        """Let in as many of each workflow, if the key has room; return how many."""
        given, limit = 0, self.limits.get(key)
        if limit and self._count(key) < limit.limit:
            for workflow in limit.workflows:
                for each in [row for row in self._blocked(workflow) if row.key == key][:most]:
                    task = TaskRef.from_member(each.member.encode())
                    known = self.kept.get(task)
                    self.kept[task] = Kept(each.rank, key, known.limit if known else 1)
                    self.blocked.discard(each)
                    self._give(task, workflow, each.rank, each.due)
                    given += 1
        return given

    def admit(self) -> int:
        return sum(self._admit(key, max(0, self.limits[key].limit - self._count(key))) for key in self.limits)

    def _release(self, task: TaskRef, worker: str, workflow: str, key: str | None) -> None:
        """Let go of what a claim holds, and let the next ones in."""
        bound = Holder(f"/{workflow}", task, worker)
        if bound in self.holders:
            self.holders.discard(bound)
            self.tokens[workflow] += 1
        if key:
            self.holders.discard(Holder(key, task, worker))
            if not self._admit(key, 1) and not self._count(key):
                self.limits.pop(key, None)

    def claim(
        self, worker: WorkerId, free: int, room: Mapping[str, int], bounds: Mapping[str, int], before: int, now: int
    ) -> list[tuple[TaskRef, str]]:
        """Take what has been due for longest, of the highest class but in each tenth turn: of each as it has room."""
        if not self.leases.get(worker):
            raise LeaseLapsed
        left = {}
        for workflow, most in room.items():
            left[workflow] = min(free, most)
            is_full = False
            if workflow in bounds:
                places = bounds[workflow] - self._count(f"/{workflow}")
                left[workflow], is_full = min(left[workflow], places), places <= 0
            if is_full or not self._due(workflow, now):
                # Nobody need come for them.
                self.tokens[workflow] = 0
        taken: list[tuple[TaskRef, str]] = []
        while len(taken) < free:
            by_class = (before + len(taken) + 1) % IN_TURN != 0
            found = [
                (rank if by_class else 0, due, task.member, rank, task, workflow)
                for workflow, places in left.items()
                if places > 0
                for due, rank, task in self._due(workflow, now)
            ]
            if not found:
                break
            _, due, _, rank, task, workflow = min(found)
            del self.due[workflow, rank][task]
            kept = self.kept.get(task)
            if kept and kept.key and kept.limit:
                if self._count(kept.key) >= self.limits.get(kept.key, kept).limit:  # type: ignore[operator]
                    self._block(task, workflow, kept, due)
                    continue
                self._note(kept.key, workflow, kept.limit)
            self._hold(worker, task, workflow, kept.key if kept else None, is_bound=workflow in bounds)
            left[workflow] -= 1
            taken.append((task, workflow))
        return taken

    def _hold(self, worker: WorkerId, task: TaskRef, workflow: str, key: str | None, *, is_bound: bool) -> None:
        was = self.keys.pop((worker, task), None)
        if was and was != key:
            self.holders.discard(Holder(was, task, worker))
        if key:
            self.keys[worker, task] = key
            self.holders.add(Holder(key, task, worker))
        if is_bound:
            self.holders.add(Holder(f"/{workflow}", task, worker))
        self.held[worker][task] = workflow

    def _due(self, workflow: str, now: int) -> list[tuple[int, int, TaskRef]]:
        return [
            (due, rank, task) for rank in RANKS for task, due in self.due[workflow, rank].items() if due <= now
        ]  # fmt: skip

    def is_idle(self, now: int) -> bool:
        """Whether there is nothing that a worker might take."""
        return not any(self._due(workflow, now) for workflow in self.tokens)

    def ripe(self, workflow: str, now: int) -> list[TaskRef]:
        """Return what is due, class by class, the longest first, and then what is blocked."""
        due = sorted((rank, due, task.member) for due, rank, task in self._due(workflow, now))
        members = [member for _, _, member in due] + [each.member for each in self._blocked(workflow)]
        return [TaskRef.from_member(member.encode()) for member in members]

    def _let_go(self, worker: WorkerId, task: TaskRef) -> tuple[str, str | None] | None:
        """Take a task out of a worker's running set; return its workflow and the key it holds."""
        workflow = self.held[worker].pop(task, None)
        return None if workflow is None else (workflow, self.keys.pop((worker, task), None))

    def acknowledge(self, worker: WorkerId, task: TaskRef) -> None:
        if held := self._let_go(worker, task):
            self.kept.pop(task, None)
            self._release(task, worker, *held)

    def requeue(self, worker: WorkerId, task: TaskRef) -> bool:
        held = self._let_go(worker, task)
        if held is None:
            return False
        self._give_back(worker, task, *held)
        return True

    def park(self, worker: WorkerId, task: TaskRef) -> bool:
        held = self._let_go(worker, task)
        if held is None:
            return False
        self._release(task, worker, *held)
        self.parked[task] = held[0]
        return True

    def unpark(self, task: TaskRef) -> bool:
        workflow = self.parked.pop(task, None)
        if workflow is None:
            return False
        self._give(task, workflow, self.kept.get(task, PLAIN).rank)
        return True

    def _give_back(self, worker: WorkerId, task: TaskRef, workflow: str, key: str | None) -> None:
        self._release(task, worker, workflow, key)
        self._give(task, workflow, self.kept.get(task, PLAIN).rank)

    def withdraw(self, task: TaskRef, workflow: str, worker: WorkerId | None) -> None:
        kept = self.kept.get(task, PLAIN)
        found = [self.due[workflow, rank].pop(task, None) for rank in RANKS]
        is_found = any(due is not None for due in found)
        if is_found:
            self._release(task, "", workflow, kept.key)
        if kept.key:
            is_found |= self._unblock(task, workflow)
        is_found |= self.parked.pop(task, None) is not None
        if worker and (held := self._let_go(worker, task)):
            is_found = True
            self._release(task, worker, workflow, held[1])
        if is_found:
            self.kept.pop(task, None)

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
        tasks = list(self.held[worker])
        for task in tasks:
            if held := self._let_go(worker, task):
                self._give_back(worker, task, *held)
        return len(tasks)
