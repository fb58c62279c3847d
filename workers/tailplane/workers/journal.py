"""What one attempt adds to its task's memory, and what it finds there. Lives on the workflow's side; no I/O of its own.

A durable call (a step, a wait, a child) asks the journal for its record by the place of the call in the code. What is
new is committed through the emitter: an event with the record, in one script, behind all events that were written
before. From then on those events stand: no later attempt takes them back, and none writes them again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from tailplane.broker.memory import BORNE, ENTRY, REFUSED, REWOUND, STAND, STEP, Memory, StepKind, StepRecord
from tailplane.protocol import codec, ranges
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TaskLost, TooLarge, WorkflowChanged
from tailplane.protocol.events import PlatformType, pack_platform_event
from tailplane.protocol.ranges import Range
from tailplane.workers.branches import CURRENT, Branch
from tailplane.workers.commits import Fields, future_of_commit
from tailplane.workers.emitter import Emitter
from tailplane.workers.open_children import OpenChildren

# Characters of the name of a step, a wait or a child.
LONGEST_NAME = 200


class Call:
    """A durable call that is under way.

    Attributes:
        id: where in the code it stands.
        branch: whose call it is.
        record: what is known of it.
        inner: the branch of what it runs.
        started: done when Redis has taken its beginning; None: it had, or nobody asks.
    """

    __slots__ = ("branch", "id", "inner", "record", "started")

    def __init__(self, call_id: str, branch: Branch, record: StepRecord) -> None:
        self.id = call_id
        self.branch = branch
        self.record = record
        self.inner = self.part("/")
        self.started: asyncio.Future[None] | None = None

    def part(self, place: str) -> Branch:
        """Return a new branch for what the call runs."""
        return Branch(f"{self.id}{place}", self.record.name if self.record.kind == "step" else self.branch.step)


class Journal:
    """The memory of a task, as one attempt uses it.

    Args:
        memory: what earlier attempts left.
        opening: seqs of the first and the last event that stand with the beginning of this attempt.
        failures: how many attempts had failed before this one.
        now: gives the server's time, in seconds since the epoch.
        most: how many durable calls a task may make.

    Attributes:
        main: the branch of the workflow's body.
        memory: kept up to date with what is committed.
        trouble: why the code does not fit what earlier attempts did; None: it does, so far.
        is_stopped: whether another attempt is to go on from here: this one begins nothing durable any more.
    """

    def __init__(
        self,
        emitter: Emitter,
        memory: Memory,
        opening: Range,
        *,
        failures: int,
        now: Callable[[], float],
        most: int,
    ) -> None:
        self.memory = memory
        self.main = Branch("")
        self.trouble: WorkflowChanged | None = None
        self.is_stopped = False
        self.now = now
        self._emitter = emitter
        self._failures = failures
        self._most = most
        self._children = OpenChildren(memory.steps.values())
        ranges.add(memory.stand, *opening)
        if memory.steps or memory.journal:
            self.enter(self.main)
            emitter.adopt(self.main)

    def branch(self) -> Branch:
        """Return the branch of the code that asks; an asyncio task that has none gets one, below that of its maker."""
        branch, task = CURRENT.get() or self.main, asyncio.current_task()
        self._emitter.adopt(self.main)
        if branch.owner is task or task is None:
            return branch
        if branch.owner is None and branch is not self.main:
            branch.owner = task
            return branch
        spawned = Branch(f"{branch.next_id}~{branch.spawned}/", branch.step, task)
        spawned.is_over = branch.is_over
        branch.spawned += 1
        branch.below.append(spawned)
        self.enter(spawned)
        # For as long as the asyncio task lives: it has a context of its own.
        CURRENT.set(spawned)
        return spawned

    def call(
        self, kind: StepKind, name: str, *, digest: str | None = None, durably: bool = False, **facts: Any
    ) -> Call:
        """Begin a durable call; what is new is committed, without waiting for Redis.

        Args:
            digest: of its arguments; None: they can't be told from others.
            durably: let the call tell when Redis has taken its beginning.
            facts: of the record, if there is none yet.

        Raises:
            WorkflowChanged: an earlier attempt has done something else here.
            TooLarge: the task has made as many calls as it may.
            TaskLost: the attempt is over.
            Unserialisable, ValueError: the name will not do.
        """
        if not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"the name of a {kind} has 1 to {LONGEST_NAME} characters, not {len(name)}")
        codec.pack(name)
        branch, started = self.branch(), None
        call_id, found = branch.next_id, self.memory.steps.get(branch.next_id)
        if found is None:
            if self.is_stopped:
                raise TaskLost("the attempt is stopped, and another one goes on from here: it begins no step any more")
            if len(self.memory.steps) >= self._most:
                raise TooLarge(f"the task has made {self._most} durable calls, and no more are allowed")
            # Only a branch of which the order is not certain needs to look at more than its place.
            certain = digest if "~" in branch.path else None
            started_at = self.now()
            attempt = self._emitter.attempt
            record = StepRecord(name=name, kind=kind, started_at=started_at, attempt=attempt, digest=certain, **facts)
            started = self._start(branch, call_id, record, durably)
        else:
            record = found
            self._check(record, kind, name, digest, call_id)
        branch.next += 1
        self.enter(branch)
        made = Call(call_id, branch, record)
        made.started = started
        self.enter(made.inner)
        return made

    def enter(self, branch: Branch) -> None:
        """Find out whether an earlier attempt, or an earlier try of a step, has gone on behind where a branch is."""
        branch.is_replayed = branch.is_over or branch.next_id in self.memory.steps

    def restart(self, call: Call, *, child: str) -> None:
        """Begin a call anew that failed in an earlier attempt, with another child."""
        call.record = replace(
            call.record, child=child, error=None, started_at=self.now(), attempt=self._emitter.attempt
        )
        call.started = self._start(call.branch, call.id, call.record, True)

    def _start(self, branch: Branch, call_id: str, record: StepRecord, durably: bool) -> "asyncio.Future[None] | None":
        data: dict[str, Any] = {"id": call_id, "step": record.name}
        type_ = PlatformType.STEP_STARTED
        if record.kind == "wait":
            type_, data = PlatformType.WAITING, {"id": call_id, "for": record.name}
            if record.until is not None:
                data["until"] = record.until
        if record.child is not None:
            data["task_id"] = record.child

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            runs, branch.runs = branch.runs, []
            stand = self._seal(seq, runs)
            self.memory.steps[call_id] = record
            fields = [STEP + call_id, record.packed(), *stand, *self._children.begun(record)]
            return pack_platform_event(type_, data), fields

        taken, done = future_of_commit() if durably else (None, None)
        self._emitter.commit(make, done)
        return taken

    @property
    def open_children(self) -> list[str]:
        """The children that have not ended, as far as this attempt knows. Thread-safe."""
        return self._children.ids

    def _check(self, found: StepRecord, kind: StepKind, name: str, digest: str | None, call_id: str) -> None:
        if (found.kind, found.name) != (kind, name):
            self.change(
                f"call {call_id} of the workflow is {kind} {name!r}, and was {found.kind} {found.name!r} in attempt "
                f"{found.attempt} of this task"
            )
        if found.digest is not None and digest is not None and found.digest != digest:
            self.change(
                f"call {call_id} of the workflow, {kind} {name!r}, has other arguments than in attempt {found.attempt}",
                hint="what runs at once has a certain order in `ctx.gather` only, not in asyncio's own",
            )

    def change(self, what: str, hint: str | None = None) -> NoReturn:
        """Say that the code does not fit what an earlier attempt did: the attempt fails, whatever its code makes of it.

        Raises:
            WorkflowChanged: always.
        """
        hint = hint or "run the task again from its beginning, or deploy the code that it began with"
        self.trouble = self.trouble or WorkflowChanged(what, hint=hint)
        raise self.trouble

    def check_end(self) -> None:
        """Make sure that a workflow that has returned has asked for all that earlier attempts did in its body.

        Raises:
            WorkflowChanged: it has not.
        """
        if self.trouble is not None:
            raise self.trouble
        if left := self.memory.steps.get(self.main.next_id):
            self.change(
                f"the workflow ended before {left.kind} {left.name!r}, which it had begun in an earlier attempt"
            )

    async def finish(self, call: Call, type_: PlatformType, data: dict[str, Any] | None = None, **facts: Any) -> None:
        """Commit that a call has finished, and return when Redis has taken it.

        Raises:
            TaskLost: the attempt is over, and has not done it.
        """
        ended_at = self.now()
        said = {"id": call.id, "step": call.record.name, **(data or {})}

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            runs = call.inner.take_runs()
            seqs = (runs[0][0], runs[-1][1]) if runs else None
            record = replace(
                call.record, ended_at=ended_at, attempt=self._emitter.attempt, seqs=seqs, error=None, **facts
            )
            stand = self._seal(seq, runs)
            self.memory.steps[call.id] = call.record = record
            fields = [
                STEP + call.id,
                record.packed(),
                *stand,
                BORNE,
                str(self._failures),
                *self._children.ended(record),
            ]
            return pack_platform_event(type_, said), fields

        await self.committed(make)

    def note_failure(self, call: Call, error: dict[str, Any], data: dict[str, Any] | None = None) -> None:
        """Commit what a call has raised, without waiting. It counts once the code has gone on behind it.

        Args:
            data: what else the event says.
        """
        told = {name: error[name] for name in ("code", "type", "message")}
        said = {"id": call.id, "step": call.record.name, "error": told, **(data or {})}

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            # What it wrote is the business of the code that goes on, or fails.
            call.branch.runs = ranges.joined([*call.branch.runs, *call.inner.take_runs()])
            call.branch.note_all(seq, seq)
            record = replace(call.record, error=error, attempt=self._emitter.attempt)
            self.memory.steps[call.id] = call.record = record
            fields = [STEP + call.id, record.packed(), *self._children.ended(record)]
            return pack_platform_event(PlatformType.STEP_FINISHED, said), fields

        self._emitter.commit(make)

    def join(self, branch: Branch, parts: Sequence[Branch]) -> None:
        """Let a branch take over what its parts have written behind their last calls."""
        self._emitter.join(branch, parts)

    def failure_of(self, call: Call) -> dict[str, Any] | None:
        """Return what a call raised in an earlier attempt whose code went on behind it; None: it is to run."""
        if call.record.error is None or not call.branch.is_replayed:
            return None
        return dict(call.record.error)

    def rewind(self, call: Call, error: dict[str, Any], delay_ms: int) -> None:
        """Say that a step is tried again, and take back what its latest try has written; without waiting."""

        def tell(seq: Cursor) -> tuple[bytes, Fields]:
            call.branch.note_all(seq, seq)
            data = {"id": call.id, "step": call.record.name, "error": error, "delay_ms": delay_ms}
            return pack_platform_event(PlatformType.STEP_RETRYING, data), []

        self._emitter.commit(tell)
        # What the asyncio tasks in it have written, too.
        self.join(call.inner, call.inner.below)
        if runs := call.inner.runs:
            self.take_back(call, runs, "step_failed")

    def take_back(self, call: Call, runs: list[Range], reason: str) -> None:
        """Take back events that a call has written; without waiting."""

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            call.inner.runs = [left for first, last in call.inner.runs for left in ranges.holes(runs, first, last)]
            call.branch.note_all(seq, seq)
            for first, last in runs:
                ranges.add(self.memory.rewound, first, last)
            # Nothing was written since but that it is tried again: then it is a plain rewind.
            is_tail = len(runs) == 1 and runs[0][1] >= seq - 2
            data: dict[str, Any] = {"to": runs[0][0] - 1 if is_tail else seq - 1, "reason": reason}
            if not is_tail:
                data["also"] = runs
            return pack_platform_event(PlatformType.REWIND, data), [REWOUND, ranges.pack(self.memory.rewound)]

        self._emitter.commit(make)

    def apart(self, step: str) -> Branch:
        """Return a branch of an engine's, of which only what it writes is known here."""
        # Before it writes: what was written until then is the body's.
        self._emitter.adopt(self.main)
        return Branch("~", step)

    async def checkpoint(self, entry: bytes, ended: Iterable[Branch] = ()) -> None:
        """Commit an entry of an engine's journal, and return when Redis has taken it.

        Args:
            ended: the branches, besides the body, of which all events stand from then on.
        """

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            runs = [each for branch in (self.main, *ended) for each in branch.take_runs()]
            data = {"entry": len(self.memory.journal)}
            fields = [*self._entry(entry), *self._seal(seq, runs), BORNE, str(self._failures)]
            return pack_platform_event(PlatformType.CHECKPOINT, data), fields

        self._emitter.adopt(self.main)
        await self.committed(make)

    async def checkpoint_alone(self, entry: bytes, data: dict[str, Any]) -> None:
        """Commit an entry of an engine's journal with which nothing stands but the event that tells of it.

        Args:
            data: what the event says.
        """

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            return pack_platform_event(PlatformType.CHECKPOINT, data), [*self._entry(entry), *self._seal(seq, [])]

        await self.committed(make)

    async def refuse(self, message: int, said: dict[str, Any]) -> None:
        """Commit that a message fits nothing: it is told once, and no attempt gets it. Returns when Redis has it.

        Args:
            said: what the event says of it.
        """

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            self.memory.refused.add(message)
            fields = [f"{REFUSED}{message}", b"", *self._seal(seq, [])]
            return pack_platform_event(PlatformType.CHECKPOINT, {"refused": said}), fields

        await self.committed(make)

    def _entry(self, entry: bytes) -> Fields:
        """Append an entry of an engine's journal; return the field of the record that has it."""
        self.memory.journal.append(entry)
        return [f"{ENTRY}{len(self.memory.journal) - 1}", entry]

    async def remember(self, fields: Fields, data: dict[str, Any], *, seals: bool) -> None:
        """Commit fields of the record, and return when Redis has taken them.

        Args:
            data: what the event says.
            seals: whether all that the body has written so far is to stand.
        """

        def make(seq: Cursor) -> tuple[bytes, Fields]:
            if not seals:
                self.main.note_all(seq, seq)
            stand = self._seal(seq, self.main.take_runs()) if seals else []
            return pack_platform_event(PlatformType.CHECKPOINT, data), [*fields, *stand]

        if seals:
            self._emitter.adopt(self.main)
        await self.committed(make)

    async def committed(self, make: Callable[[Cursor], tuple[bytes, Fields]]) -> None:
        """Commit, and return when Redis has taken it.

        Raises:
            TaskLost: the attempt is over, and has not done it.
        """
        if not self._emitter.room.is_there:
            await self._emitter.room.wait()
        taken, done = future_of_commit()
        self._emitter.commit(make, done)
        await taken

    def sealed(self, seqs: Range) -> Sequence[bytes | str]:
        """Return the field of the record in which the events of `seqs` stand, too."""
        stand = list(self.memory.stand)
        ranges.add(stand, *seqs)
        return [STAND, ranges.pack(stand)]

    def _seal(self, seq: Cursor, runs: Sequence[Range]) -> Fields:
        """Let stand what a branch has written, and the event `seq`; with the emitter's lock held."""
        stand = self.memory.stand
        for first, last in runs:
            ranges.add(stand, first, last)
        ranges.add(stand, seq, seq)
        return [STAND, ranges.pack(stand)]
