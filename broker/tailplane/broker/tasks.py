"""The task store: a task's record and the moves of its life. Used by control planes and workers.

Each move is one script on the task's own slot that checks the state against the table of `protocol.states`, writes the
record and appends the event that says so. Every method raises StoreUnavailable when Redis does not answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from tailplane.broker import scripts
from tailplane.broker.beginning import Beginning, Begun, Opening
from tailplane.broker.event_log import SCRIPT_BYTES, SCRIPT_ENTRIES, Append, ring_verb
from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.records import (
    BEGUN_FIELDS,
    OUTCOME_FIELDS,
    NewTask,
    TaskRecord,
    parse_task,
    queued_record,
    task_fields,
)
from tailplane.broker.store import Store
from tailplane.broker.wire import is_away, raise_refusals
from tailplane.protocol import codec, events
from tailplane.protocol.errors import StoreUnavailable, TaskLost, TaskNotFound
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, WorkerId, new_task_id
from tailplane.protocol.states import TRANSITIONS, State, Trigger, encode_moves

_MOVES = {trigger: encode_moves(trigger) for trigger in Trigger}
# What an attempt that runs may do: some of these are also done from outside, to a task that nobody runs.
_MOVES_OF_ATTEMPT = {
    trigger: f"{State.RUNNING}={moves[State.RUNNING]};"
    for trigger, moves in TRANSITIONS.items()
    if State.RUNNING in moves
}
# Of a hundred new tasks none gets an id on the one shard of three that is away.
_DRAWS = 20
# The Error of PROTOCOL.md 2 of a task whose time over all attempts is up.
OUT_OF_TIME = {
    "code": "timeout",
    "type": "builtins.TimeoutError",
    "message": "the task took longer than its total_timeout",
}


@dataclass(frozen=True, slots=True)
class Closing:
    """The last entry of an attempt.

    Attributes:
        trigger: the move it makes.
        attempt: the attempt that makes it.
        after: seq of the last event that the stream has.
        packed: the events of the entry, what the platform says last.
        fields: what the record gets, as alternating fields and values.
        lost: events that the store has lost in between: their seqs are left out, for readers may have seen them.
        worker: who must hold the attempt; None: anybody.
    """

    trigger: Trigger
    attempt: int
    after: int
    packed: Sequence[bytes]
    fields: Sequence[bytes | str] = ()
    lost: int = 0
    worker: WorkerId | None = None


class Standing(NamedTuple):
    """How a task stands by its server's clock: whether it is too late to start, or has no time left at all."""

    state: State
    attempt: int
    is_late: bool
    is_over: bool


class TooLateToRecord(Exception):
    """The task is not there, and so much time has passed that it may have been there, and gone."""


class TailMismatch(Exception):
    """The stream ends elsewhere than its writer believes."""


@dataclass(frozen=True, slots=True)
class TaskStore:
    """The tasks of one deployment.

    Attributes:
        retention: how long a task's record and stream are kept after it ended.
        start_within: how long a task may be queued before it expires.
        dead_letter_retention: as `retention`, of a task that failed.
    """

    wire: Store
    keys: Keys
    retention: timedelta
    start_within: timedelta
    dead_letter_retention: timedelta

    def draw(self, tenant: str) -> TaskRef:
        """Return a new task's id, on a shard that is not known to be away if there is one."""
        for _ in range(_DRAWS):
            task = TaskRef(new_task_id(), tenant)
            if not self.wire.is_away(self.keys.task(task)):
                break
        return task

    async def create(self, task: NewTask) -> TaskRecord:
        """Record a task as queued and open its stream; return its record. Sent again, it changes nothing.

        Raises:
            TooLateToRecord: its `record_by_ms` has passed, and it is not there.
        """
        queued: dict[str, Any] = {"workflow": task.workflow, "version": task.version}
        if task.position is not None:
            queued["position"] = task.position
        if task.requeue_of is not None:
            queued["requeue_of"] = task.requeue_of
        if task.fired is not None:
            queued["schedule"] = task.fired.schedule
        payload = events.join_events([events.pack_platform_event(PlatformType.QUEUED, queued)])
        start_within = task.delay + (task.start_within or self.start_within)
        ttl = start_within + self.retention
        record_by = task.fired.record_by_ms if task.fired else 0
        created_at = await self._run(
            scripts.CREATE,
            [self.keys.task(task.ref), self.keys.stream(task.ref)],
            [payload, _ms(ttl), _ms(start_within), _ms(task.delay), record_by, *task_fields(task)],
        )
        if not created_at:
            raise TooLateToRecord
        return queued_record(task, created_at / 1000, created_at / 1000 + start_within.total_seconds())

    async def discard(self, task: TaskRef) -> None:
        """Remove a task that was created but never queued."""
        await self.wire.run("DEL", self.keys.task(task), self.keys.stream(task))

    async def read(self, task: TaskRef, fields: Sequence[str] = OUTCOME_FIELDS) -> TaskRecord:
        """Return a task's record; fields left out of `fields` are empty.

        Raises:
            TaskNotFound: there is none.
        """
        (found,) = await self.read_many([task], fields)
        if found is None:
            raise TaskNotFound(f"there is no task {task.task_id}", task_id=task.task_id)
        return found

    async def read_many(self, tasks: Sequence[TaskRef], fields: Sequence[str]) -> list[TaskRecord | None]:
        """Return the records of these tasks, in their order; None where there is none."""
        if not tasks:
            return []
        rows = await self.wire.call([("HMGET", self.keys.task(task), *fields) for task in tasks])
        raise_refusals(rows)
        return [_parse_row(fields, row) for row in rows]

    async def judge(self, tasks: Sequence[TaskRef]) -> list[Standing | StoreUnavailable | None]:
        """Return how each of these tasks stands, None where there is none; or why that can't be told now."""
        replies = await scripts.JUDGE.try_many(self.wire, [([self.keys.task(task)], []) for task in tasks])
        raise_refusals([reply for reply in replies if not is_away(reply)])
        return [_parse_standing(reply) for reply in replies]

    async def wait_for(self, task: TaskRef, channel: str) -> TaskRecord | None:
        """Return an ended task's record; else None, and its end will be told on a channel, with the record's key.

        A message may be lost, and the four that asked last are told: look again once in a while.

        Raises:
            TaskNotFound: there is no such task.
        """
        row = await self._run(scripts.AWAIT, [self.keys.task(task)], [channel, *OUTCOME_FIELDS])
        match row:
            case None:
                raise TaskNotFound(f"there is no task {task.task_id}", task_id=task.task_id)
            case 0:
                return None
            case _:
                return _parse_row(OUTCOME_FIELDS, row)

    async def begin(
        self,
        task: TaskRef,
        worker: WorkerId,
        host: str,
        *,
        takes_over: bool = True,
        total_timeout: timedelta | None = None,
        has_run: bool = False,
    ) -> Begun:
        """Begin the next attempt of a task that the queue handed to `worker`.

        A task that another worker seems to run was given back because that worker lost its lease: it is taken over.

        Args:
            task: whose attempt.
            worker: who runs it, on `host`.
            takes_over: whether it may run again that was lost while it ran.
            has_run: whether `worker` has run an earlier attempt of it, and lost it.
            total_timeout: how long the task may take from now on, if this is its first attempt.

        Raises:
            TimeIsUp: it has taken as long as it may: it is to `fail` with `OUT_OF_TIME`.
            HolderLost: it would be, but not with `takes_over` unset.
            TaskNotFound: it was removed.
            TransitionRefused: it has ended, or waits.
            StartTooLate: its start deadline has passed: it expires.
        """
        beginning = Beginning(task, worker, host, takes_over=takes_over, has_run=has_run)
        while True:
            if begun := beginning.take(await self._begin(task, worker, beginning.opening, total_timeout)):
                return begun

    async def _begin(
        self, task: TaskRef, worker: WorkerId, opening: Opening, total_timeout: timedelta | None
    ) -> list[Any]:
        reply: list[Any] = await self._run(
            scripts.BEGIN,
            [self.keys.task(task), self.keys.stream(task)],
            [
                _MOVES[opening.trigger],
                worker,
                opening.latest,
                opening.given_back_by,
                events.join_events(opening.packed),
                len(opening.packed),
                _ms(total_timeout or timedelta()),
                *self._bell(task),
                opening.stand,
                *BEGUN_FIELDS,
            ],
        )
        return reply

    async def finish(self, task: TaskRef, closing: Closing) -> State:
        """End or give back a task whose attempt the caller holds; sent again after a lost reply, it changes nothing.

        Returns:
            The state that the task has now.
        Raises:
            TaskLost: the attempt no longer holds the task.
            TailMismatch: the stream does not end at `closing.after`, or the store does not know the attempt.
        """
        ends = closing.trigger not in (Trigger.RETRY, Trigger.HAND_BACK, Trigger.WAIT)
        given_back = () if ends else ("given_back_by", closing.trigger.value)
        reply = await self._run(
            scripts.FINISH,
            [self.keys.task(task), self.keys.stream(task)],
            [
                _MOVES_OF_ATTEMPT[closing.trigger],
                closing.attempt,
                closing.after,
                events.join_events(closing.packed),
                closing.after + closing.lost + len(closing.packed),
                _ms(self._kept_for(closing.trigger)) if ends else 0,
                1 if closing.trigger in (Trigger.RETRY, Trigger.FAIL) else 0,
                closing.worker or "",
                *self._bell(task),
                *closing.fields,
                *given_back,
            ],
        )
        match reply:
            case [b"done", state]:
                return State(state.decode())
            case [b"tail", last]:
                raise TailMismatch(f"the stream ends at {last} instead of {closing.after}")
            case [b"lost", _, attempt] if attempt < closing.attempt:
                raise TailMismatch(f"the store knows of no attempt after {attempt}")
            case _:
                raise _lost(task, reply)

    async def repair(
        self, task: TaskRef, attempt: int, worker: WorkerId, tail: EntryId, missing: Sequence[Append]
    ) -> int:
        """Append again what the store has lost of an attempt, for the worker that holds it.

        A few entries at a time: where that fails in between, the stream goes on from there the next time.

        Args:
            tail: the entry with which the stream ends now.
            missing: what follows it; where the record does not know the attempt any more, its opening is the first.
        Returns:
            How many entries the stream has now.
        Raises:
            TaskLost: the attempt does not hold the task.
            TailMismatch: the stream ends elsewhere: look again.
        """
        entries = 0
        # At least once: the record may have lost the attempt, and the stream nothing behind its opening.
        for some in _batches(missing) or [[]]:
            entries = await self._repair(task, attempt, worker, tail, some)
            tail = some[-1].id if some else tail
        return entries

    async def _repair(
        self, task: TaskRef, attempt: int, worker: WorkerId, tail: EntryId, missing: Sequence[Append]
    ) -> int:
        arguments = [
            encode_moves(Trigger.BEGIN, Trigger.TAKE_OVER),
            attempt,
            worker,
            str(tail),
            *self._bell(task),
        ]
        for entry in missing:
            arguments += (str(entry.id), entry.payload, len(entry.fields), *entry.fields)
        reply = await self._run(scripts.REPAIR, [self.keys.task(task), self.keys.stream(task)], arguments)
        match reply:
            case [b"done", entries]:
                return int(entries)
            case [b"moved"]:
                raise TailMismatch(f"the stream does not end at {tail} any more")
            case _:
                raise _lost(task, reply)

    async def end(
        self,
        task: TaskRef,
        trigger: Trigger,
        latest: int,
        type_: PlatformType,
        data: dict[str, Any],
        fields: Sequence[bytes | str] = (),
    ) -> State | None:
        """End a task from outside, if attempt `latest` is still its latest and the table allows the move.

        The entry fences the attempt off: Redis refuses what it still writes. `fields` are what the record gets.

        Returns:
            The state that the task has now; None if it has moved on meanwhile: look again.
        Raises:
            TaskNotFound: there is no such task.
        """
        payload = events.join_events([events.pack_platform_event(type_, data, attempt=latest)])
        reply = await self._run(
            scripts.END,
            [self.keys.task(task), self.keys.stream(task)],
            [_MOVES[trigger], latest, payload, _ms(self._kept_for(trigger)), *self._bell(task), *fields],
        )
        match reply:
            case [b"done", state]:
                return State(state.decode())
            case [b"refused", state, *_]:
                now = State(state.decode())
                return now if now.is_terminal else None
            case _:
                raise TaskNotFound(f"there is no task {task.task_id}", task_id=task.task_id)

    async def fail(self, task: TaskRef, latest: int, error: Mapping[str, Any]) -> State | None:
        """Let a task fail from outside, as `end` does, with an Error of PROTOCOL.md 2."""
        return await self.end(task, Trigger.FAIL, latest, PlatformType.FAILED, {"error": error}, record_fields(error))

    def _kept_for(self, trigger: Trigger) -> timedelta:
        return self.dead_letter_retention if trigger is Trigger.FAIL else self.retention

    def _bell(self, task: TaskRef) -> tuple[str, str]:
        """Return how to ring for the task's readers, and where."""
        return ring_verb(self.wire), self.keys.bell(task)

    async def _run(self, script: scripts.Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await script.run(self.wire, keys, args)


def _batches(entries: Sequence[Append]) -> list[list[Append]]:
    """Return entries in pieces of which each is one script's."""
    pieces: list[list[Append]] = []
    size = 0
    for entry in entries:
        if not pieces or len(pieces[-1]) == SCRIPT_ENTRIES or size + len(entry.payload) > SCRIPT_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(entry)
        size += len(entry.payload)
    return pieces


def record_fields(error: Mapping[str, Any]) -> list[bytes | str]:
    """Return what the record of a task that fails gets, as alternating fields and values."""
    return ["error", codec.pack(error)]


def _lost(task: TaskRef, reply: Sequence[Any]) -> TaskLost:
    match reply:
        case [b"lost", state, attempt]:
            return TaskLost(f"task {task.task_id} is {state.decode()} in attempt {attempt}")
        case _:
            return TaskLost(f"task {task.task_id} was removed")


def _parse_standing(reply: Any) -> Standing | StoreUnavailable | None:
    match reply:
        case [state, attempt, is_late, is_over]:
            return Standing(State(state.decode()), attempt, bool(is_late), bool(is_over))
        case StoreUnavailable():
            return reply
        case _:
            return None


def _parse_row(fields: Sequence[str], row: Sequence[bytes | None]) -> TaskRecord | None:
    named = dict(zip(fields, row, strict=True))
    return parse_task(named) if named["state"] else None


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
