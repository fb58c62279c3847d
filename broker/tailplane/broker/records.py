"""What Redis keeps of tasks, sessions, workers and workflows, as Python sees it. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from tailplane.broker.keys import TaskRef
from tailplane.broker.terms import PLAIN, Terms
from tailplane.protocol import codec, ranges
from tailplane.protocol.ids import SessionId, TaskId, WorkerId
from tailplane.protocol.priorities import Priority
from tailplane.protocol.ranges import Range, holes, joined
from tailplane.protocol.states import State

_NOTHING: Mapping[str, str] = MappingProxyType({})
# As the store has them.
_STATES = {state.value.encode(): state for state in State}


class Parent(NamedTuple):
    """The task that has started another one, and how many generations are above that one."""

    task_id: TaskId
    depth: int


class Fired(NamedTuple):
    """What fired a task.

    Attributes:
        schedule: its name.
        due_ms: the due time, in ms since the epoch; None: somebody triggered the schedule by hand.
        record_by_ms: the server's time after which the task must not be recorded any more; 0: at any time.
    """

    schedule: str
    due_ms: int | None = None
    record_by_ms: int = 0


class NewTask(NamedTuple):
    """What a submit asks for.

    Attributes:
        input: the workflow's input as msgpack, already validated.
        trace: the caller's W3C trace context: `traceparent`, `tracestate`.
        waiting: the channel on which somebody waits for its end, see `TaskStore.wait_for`.
        start_within: how long it may be queued before its first attempt; None: as the store says.
        position: how many tasks of its workflow waited before it, about; None: not known.
        requeue_of: the failed task that it does again.
        parent: the task that starts it.
        delay: how long after its recording it is due; its start deadline and the TTL count from then.
        fired: what fired it; None: somebody submitted it.
        terms: on which it is claimed.
    """

    ref: TaskRef
    workflow: str
    version: str
    input: bytes
    session_id: SessionId | None = None
    metadata: Mapping[str, str] = _NOTHING
    trace: Mapping[str, str] = _NOTHING
    waiting: str | None = None
    start_within: timedelta | None = None
    position: int | None = None
    requeue_of: TaskId | None = None
    parent: Parent | None = None
    delay: timedelta = timedelta()
    fired: Fired | None = None
    terms: Terms = PLAIN


class TaskRecord(NamedTuple):
    """A task's record. Times are seconds since the epoch, by the server's clock."""

    task_id: TaskId
    tenant: str
    workflow: str
    version: str
    state: State
    attempt: int
    failures: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    start_by: float
    session_id: SessionId | None
    worker_id: WorkerId | None
    metadata: dict[str, str]
    trace: dict[str, str]
    input: bytes
    result: bytes | None
    error: dict[str, Any] | None
    # The seq up to which what the workflow wrote is superseded by a later attempt; 0: nothing is.
    superseded: int = 0
    # When its time over all attempts is up; None: it has not begun, or may take as long as it likes.
    end_by: float | None = None
    # How many tasks of its workflow waited before it when it was queued, about.
    position: int | None = None
    # The failed task that it does again.
    requeue_of: TaskId | None = None
    # When it was to be started, if that was not at once.
    due_at: float | None = None
    # The schedule that fired it.
    schedule: str | None = None
    # The trace context of the attempt that gave it back; None: no attempt has, or it had none.
    given_back_trace: str | None = None
    # How many attempts had failed when its latest step finished.
    borne: int = 0
    # The task that has started it.
    parent: Parent | None = None
    # The tasks that it has started and that have not ended, as far as its attempt knew.
    children: Sequence[TaskId] = ()
    # Ranges of events that stand whatever attempts follow, and of those that a step took back by itself.
    stand: Sequence[Range] = ()
    rewound: Sequence[Range] = ()
    terms: Terms = PLAIN

    @property
    def superseded_ranges(self) -> list[Range]:
        """Which of the workflow's events are superseded by a later attempt, or a later try of a step."""
        return joined([*holes(self.stand, 1, self.superseded), *self.rewound])

    @property
    def ref(self) -> TaskRef:
        """The task's id and tenant."""
        return TaskRef(self.task_id, self.tenant)


TERMS_FIELDS = ("priority", "concurrency_key", "concurrency_limit")
# All but the input, which may be large and only the worker needs.
SUMMARY_FIELDS = (
    "task_id", "tenant", "workflow", "version", "state", "attempt", "failures", "created_at", "started_at", "ended_at",
    "start_by", "session_id", "worker", "metadata", "superseded", "position",
    "requeue_of", "stand", "rewound", "parent", "children", "due_at", "schedule", *TERMS_FIELDS,
)  # fmt: skip
OUTCOME_FIELDS = (*SUMMARY_FIELDS, "result", "error")
# What a worker needs beside what its own `begin` has written.
BEGUN_FIELDS = (
    "workflow",
    "version",
    "created_at",
    "start_by",
    "session_id",
    "metadata",
    "trace",
    "input",
    "given_back_trace",
    "borne",
    "parent",
    "children",
    "due_at",
)


def task_fields(task: NewTask) -> list[bytes | str]:
    """Return a new task's record as alternating fields and values; `create` adds the rest."""
    fields: list[bytes | str] = [
        "task_id", task.ref.task_id, "tenant", task.ref.tenant, "workflow", task.workflow, "version", task.version,
        "input", task.input,
    ]  # fmt: skip
    if task.session_id:
        fields += ["session_id", task.session_id]
    if task.metadata:
        fields += ["metadata", codec.pack(dict(task.metadata))]
    if task.trace:
        fields += ["trace", codec.pack(dict(task.trace))]
    if task.waiting:
        fields += ["waiting", task.waiting]
    if task.position is not None:
        fields += ["position", str(task.position)]
    if task.requeue_of is not None:
        fields += ["requeue_of", task.requeue_of]
    if task.parent is not None:
        fields += ["parent", codec.pack(task.parent)]
    if task.fired is not None:
        fields += ["schedule", task.fired.schedule]
        if task.fired.due_ms is not None:
            fields += ["due_at", str(task.fired.due_ms)]
    priority, key, limit = task.terms
    if priority is not Priority.NORMAL:
        fields += ["priority", priority.value]
    if key is not None:
        fields += ["concurrency_key", key, "concurrency_limit", str(limit)]
    return fields


def queued_record(task: NewTask, created_at: float, start_by: float) -> TaskRecord:
    """Return the record of a task that has just been created."""
    return TaskRecord(
        task_id=task.ref.task_id,
        tenant=task.ref.tenant,
        workflow=task.workflow,
        version=task.version,
        state=State.QUEUED,
        attempt=0,
        failures=0,
        created_at=created_at,
        started_at=None,
        ended_at=None,
        start_by=start_by,
        session_id=task.session_id,
        worker_id=None,
        metadata=dict(task.metadata),
        trace=dict(task.trace),
        input=task.input,
        result=None,
        error=None,
        position=task.position,
        requeue_of=task.requeue_of,
        parent=task.parent,
        due_at=_due_at(task, created_at),
        schedule=task.fired.schedule if task.fired else None,
        terms=task.terms,
    )


def _due_at(task: NewTask, created_at: float) -> float | None:
    if task.fired and task.fired.due_ms is not None:
        return task.fired.due_ms / 1000
    return created_at + task.delay.total_seconds() if task.delay else None


def running_record(
    task: TaskRef,
    worker: WorkerId,
    attempt: int,
    failures: int,
    started_at: float,
    end_by: float | None,
    row: Sequence[bytes | None],
) -> TaskRecord:
    """Return the record of a task whose attempt has just begun; `row` has the values of `BEGUN_FIELDS`."""
    (
        workflow, version, created_at, start_by, session, metadata, trace, value, given_back_trace, borne, parent,
        children, due_at,
    ) = row  # fmt: skip
    return TaskRecord(
        task_id=task.task_id,
        tenant=task.tenant,
        workflow=(workflow or b"").decode(),
        version=(version or b"").decode(),
        state=State.RUNNING,
        attempt=attempt,
        failures=failures,
        created_at=int(created_at or 0) / 1000,
        started_at=started_at,
        ended_at=None,
        start_by=int(start_by or 0) / 1000,
        session_id=SessionId(session.decode()) if session else None,
        worker_id=worker,
        metadata=codec.unpack(metadata) if metadata else {},
        trace=codec.unpack(trace) if trace else {},
        input=value or b"\xc0",
        result=None,
        error=None,
        end_by=end_by,
        given_back_trace=given_back_trace.decode() if given_back_trace else None,
        borne=int(borne or 0),
        parent=_parent(parent),
        children=tuple(_table(children) or ()),
        due_at=_seconds(due_at),
    )


def parse_task(fields: Mapping[str, bytes | None]) -> TaskRecord:
    """Return the record that these fields of a task's hash hold; fields that were not read are absent or None."""
    get = fields.get
    session, worker, position, requeue_of = get("session_id"), get("worker"), get("position"), get("requeue_of")
    return TaskRecord(
        task_id=TaskId(_text(get("task_id"))),
        tenant=_text(get("tenant")),
        workflow=_text(get("workflow")),
        version=_text(get("version")),
        state=_STATES[get("state") or b""],
        attempt=int(get("attempt") or 0),
        failures=int(get("failures") or 0),
        created_at=_seconds(get("created_at")) or 0.0,
        started_at=_seconds(get("started_at")),
        ended_at=_seconds(get("ended_at")),
        start_by=_seconds(get("start_by")) or 0.0,
        session_id=SessionId(session.decode()) if session else None,
        worker_id=WorkerId(worker.decode()) if worker else None,
        metadata=_table(get("metadata")) or {},
        trace=_table(get("trace")) or {},
        input=get("input") or b"\xc0",
        result=get("result"),
        error=_table(get("error")),
        superseded=int(get("superseded") or 0),
        end_by=_seconds(get("end_by")),
        position=int(position) if position else None,
        requeue_of=TaskId(requeue_of.decode()) if requeue_of else None,
        parent=_parent(get("parent")),
        children=tuple(_table(get("children")) or ()),
        stand=tuple(ranges.unpack(get("stand"))),
        rewound=tuple(ranges.unpack(get("rewound"))),
        due_at=_seconds(get("due_at")),
        schedule=_text(get("schedule")) or None,
        terms=_terms(fields),
    )


def _terms(fields: Mapping[str, bytes | None]) -> Terms:
    priority, key, limit = (fields.get(name) for name in TERMS_FIELDS)
    if priority is None and key is None:
        return PLAIN
    return Terms(
        Priority(priority.decode()) if priority else Priority.NORMAL,
        key.decode() if key is not None else None,
        int(limit or 1),
    )


def _parent(raw: bytes | None) -> Parent | None:
    return Parent(*codec.unpack(raw)) if raw else None


def _text(raw: bytes | None) -> str:
    return raw.decode() if raw else ""


def _seconds(raw: bytes | None) -> float | None:
    return int(raw) / 1000 if raw else None


def _table(raw: bytes | None) -> Any:
    return codec.unpack(raw) if raw else None


def parse_flat(pairs: Sequence[bytes] | Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return HGETALL's reply, which RESP 2 gives as a flat list inside scripts, as a dict."""
    if isinstance(pairs, Mapping):
        return {key.decode(): value for key, value in pairs.items()}
    return {pairs[i].decode(): pairs[i + 1] for i in range(0, len(pairs), 2)}


@dataclass(frozen=True, slots=True)
class WorkflowRecord:
    """What a worker registers of a workflow.

    Attributes:
        input_schema: JSON Schema of the input; `{}` takes anything.
        input_optional: no input at all (None) will do, whatever the schema says.
        timeout_ms: how long one attempt may take; None: as long as it likes.
        total_timeout_ms: how long a task may take from its first start; None: as long as it likes.
        start_within_ms: how long a task may be queued before its first attempt; None: the control plane's setting.
        max_attempts: how many failed attempts a task may have in all before it fails.
        concurrency: how many at once in one worker process; None: as many as the worker takes.
        max_running: how many at once over all workers; None: any number.
        priority: the class of a task whose submit says none.
    """

    name: str
    version: str
    description: str
    input_schema: dict[str, Any]
    timeout_ms: int | None
    max_attempts: int
    concurrency: int | None
    input_optional: bool = False
    total_timeout_ms: int | None = None
    start_within_ms: int | None = None
    max_running: int | None = None
    priority: str = Priority.NORMAL.value

    @property
    def start_within(self) -> timedelta | None:
        """`start_within_ms` as a duration."""
        return None if self.start_within_ms is None else timedelta(milliseconds=self.start_within_ms)


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What a worker says of itself. `lease_ms` is what is left of its lease; below 0 it has run out."""

    worker_id: WorkerId
    host: str
    pid: int
    version: str
    workflows: list[str]
    concurrency: int
    started_at: float
    running: int = 0
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session. `created_at` is seconds since the epoch, by the server's clock."""

    session_id: SessionId
    tenant: str
    created_at: float
    closed: bool
    metadata: dict[str, str]
