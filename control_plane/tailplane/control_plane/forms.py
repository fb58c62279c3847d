"""The forms of answers: what travels over HTTP in place of the broker's records. Shapes: PROTOCOL.md 2. No I/O.

TypedDicts, so that the type checker, OpenAPI and the wire have one source, and nothing is validated that we made
ourselves. An optional field that is not there is left out, never null.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from tailplane.broker import Backlog, SessionRecord, TaskRecord, WorkerRecord, WorkflowRecord
from tailplane.broker.memory import StepRecord
from tailplane.control_plane import examples
from tailplane.control_plane.survey import Standing
from tailplane.protocol import codec
from tailplane.protocol.priorities import Priority
from tailplane.protocol.states import State

Labels = Annotated[dict[str, str], Field(description="Left out where the caller has not sent it and may not read it.")]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.SESSION]}))
class Session(TypedDict):
    """A named group of tasks."""

    session_id: str
    created_at: float
    closed: bool
    metadata: NotRequired[Labels]


class Error(TypedDict):
    """Why a task did not succeed."""

    code: str
    type: str
    message: str
    traceback: NotRequired[str]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.TASK]}))
class Task(TypedDict):
    """A request to run a workflow, and how far it has come. Times are seconds since the epoch."""

    task_id: str
    workflow: str
    version: str
    state: State
    attempt: Annotated[int, Field(description="The latest attempt; 0 before the first.")]
    created_at: float
    started_at: NotRequired[Annotated[float, Field(description="When the latest attempt began.")]]
    ended_at: NotRequired[float]
    session_id: NotRequired[str]
    worker_id: NotRequired[Annotated[str, Field(description="Who runs the latest attempt, or ran it.")]]
    metadata: NotRequired[Labels]
    position: NotRequired[
        Annotated[int, Field(description="How many tasks of its workflow waited before it when it was queued, about.")]
    ]
    superseded: NotRequired[
        Annotated[
            list[tuple[int, int]],
            Field(description="First and last seq of ranges where a later attempt supersedes the workflow's events."),
        ]
    ]
    requeue_of: NotRequired[Annotated[str, Field(description="The failed task that it does again.")]]
    parent_id: NotRequired[Annotated[str, Field(description="The task that has started it.")]]
    due_at: NotRequired[Annotated[float, Field(description="When it was to start, if that was not at once.")]]
    schedule: NotRequired[Annotated[str, Field(description="The schedule that fired it.")]]
    priority: NotRequired[Annotated[Priority, Field(description="Its class; absent: normal.")]]
    concurrency_key: NotRequired[
        Annotated[str, Field(description="Of the tasks with this key, only so many run at once.")]
    ]
    concurrency_limit: NotRequired[Annotated[int, Field(description="How many, as this task says.")]]
    result: NotRequired[Annotated[Any, Field(description="What the workflow returned. Not in lists.")]]
    error: NotRequired[Annotated[Error, Field(description="Why it did not succeed. Not in lists.")]]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.STEP]}))
class Step(TypedDict):
    """Something that a task does once, however many attempts it takes. Times are seconds since the epoch."""

    id: Annotated[str, Field(description="Where in the workflow's code it stands.")]
    name: str
    kind: Annotated[str, Field(description="`step`, `wait`, `child` or `gather`.")]
    attempt: Annotated[int, Field(description="The attempt that began it, or finished it.")]
    started_at: float
    ended_at: NotRequired[Annotated[float, Field(description="When it finished; absent: it has not.")]]
    seqs: NotRequired[
        Annotated[tuple[int, int], Field(description="Seqs of the first and the last event that it wrote.")]
    ]
    error: NotRequired[Annotated[Error, Field(description="What it raised at last; it may be tried again.")]]
    until: NotRequired[Annotated[float, Field(description="When its wait ends in any case.")]]
    message: NotRequired[
        Annotated[int, Field(description="The number of the message that it got; 0: none came in time.")]
    ]
    child: NotRequired[Annotated[str, Field(description="The task that it runs.")]]


class StepList(TypedDict):
    """What a task has done durably, in the order in which it began."""

    steps: list[Step]


class DeliveredMessage(TypedDict):
    """A message that is in a task's inbox."""

    task_id: str
    number: Annotated[int, Field(description="Its place there, from 1.")]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.STATE_VALUE]}))
class StateValue(TypedDict):
    """A value that the tasks of a session share."""

    key: str
    value: Any
    version: Annotated[int, Field(description="How often it was set; 0: never.")]


class StateValues(TypedDict):
    """All values that the tasks of a session share."""

    state: dict[str, StateValue]


class TaskPage(TypedDict):
    """A page of tasks, newest first."""

    tasks: list[Task]
    next_page: Annotated[str | None, Field(description="The `page` that goes on from here; null at the end.")]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.DEAD_LETTER]}))
class DeadLetter(TypedDict):
    """A task that failed, and waits for somebody to look at it. Times are seconds since the epoch."""

    task_id: str
    workflow: str
    version: str
    error: Annotated[Error, Field(description="Why it failed; the traceback is in the task.")]
    attempts: int
    created_at: float
    ended_at: float
    session_id: NotRequired[str]
    metadata: dict[str, str]
    requeue_of: NotRequired[Annotated[str, Field(description="The failed task that it did again.")]]


class DeadLetterPage(TypedDict):
    """A page of dead letters, newest first."""

    dead_letters: list[DeadLetter]
    next_page: Annotated[str | None, Field(description="The `page` that goes on from here; null at the end.")]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.WORKFLOW]}))
class Workflow(TypedDict):
    """A workflow that workers have registered."""

    name: str
    version: str
    description: str
    input_schema: Annotated[dict[str, Any], Field(description="JSON Schema of the input.")]
    input_optional: Annotated[bool, Field(description="Whether the input may be left out.")]
    timeout_ms: NotRequired[Annotated[int, Field(description="How long one attempt may take; absent: any time.")]]
    total_timeout_ms: NotRequired[
        Annotated[int, Field(description="How long a task may take from its first start; absent: any time.")]
    ]
    start_within_ms: NotRequired[
        Annotated[int, Field(description="How long a task may be queued; absent: as the control plane says.")]
    ]
    max_attempts: int
    concurrency: NotRequired[Annotated[int, Field(description="How many at once in one worker; absent: any number.")]]
    max_running: NotRequired[
        Annotated[int, Field(description="How many at once over all workers; absent: any number.")]
    ]
    priority: NotRequired[Annotated[Priority, Field(description="Of a task whose submit says none; absent: normal.")]]


class WorkflowList(TypedDict):
    """All workflows, by name."""

    workflows: list[Workflow]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.WORKER]}))
class Worker(TypedDict):
    """A process that runs workflows."""

    worker_id: str
    host: NotRequired[Annotated[str, Field(description="Told to admins of the tenant `default` alone, as `pid`.")]]
    pid: NotRequired[int]
    version: str
    workflows: list[str]
    concurrency: int
    running: Annotated[int, Field(description="Tasks that it holds: the tenant's; of all for the tenant `default`.")]
    started_at: float
    lease_ms: Annotated[int, Field(description="What is left of its lease; below 0 it has run out.")]


class WorkerList(TypedDict):
    """The workers that hold a lease, or held one a moment ago."""

    workers: list[Worker]


class QueueStanding(TypedDict):
    """What waits for one workflow."""

    workflow: str
    depth: Annotated[
        int, Field(description="Tasks that wait, those that are not due yet or wait for their key included.")
    ]
    oldest_age_ms: Annotated[
        int, Field(description="For how long the first of them that a worker may take has been due; 0: none is.")
    ]
    workers: Annotated[int, Field(description="How many workers run the workflow.")]


@with_config(ConfigDict(json_schema_extra={"examples": [examples.FLEET]}))
class Fleet(TypedDict):
    """How the deployment stands, as it was found a second ago at the most."""

    queues: Annotated[list[QueueStanding], Field(description="By workflow, at most 1,000 of them.")]
    workers: list[Worker]
    dead_letters: Annotated[int, Field(description="Failed tasks of the tenant that nobody has requeued or dropped.")]


class Health(TypedDict):
    """Whether a process is well."""

    status: str


def session_form(record: SessionRecord) -> Session:
    """Return a session's form."""
    return Session(
        session_id=record.session_id,
        created_at=record.created_at,
        closed=record.closed,
        metadata=record.metadata,
    )


def task_form(record: TaskRecord) -> Task:
    """Return a task's form, without what came out of it."""
    form = Task(
        task_id=record.task_id,
        workflow=record.workflow,
        version=record.version,
        state=record.state,
        attempt=record.attempt,
        created_at=record.created_at,
        metadata=record.metadata,
    )
    if record.started_at is not None:
        form["started_at"] = record.started_at
    if record.ended_at is not None:
        form["ended_at"] = record.ended_at
    if record.session_id is not None:
        form["session_id"] = record.session_id
    if record.worker_id is not None:
        form["worker_id"] = record.worker_id
    if record.position is not None:
        form["position"] = record.position
    if superseded := record.superseded_ranges:
        form["superseded"] = superseded
    if record.requeue_of is not None:
        form["requeue_of"] = record.requeue_of
    if record.parent is not None:
        form["parent_id"] = record.parent.task_id
    if record.due_at is not None:
        form["due_at"] = record.due_at
    if record.schedule is not None:
        form["schedule"] = record.schedule
    if record.terms.priority is not Priority.NORMAL:
        form["priority"] = record.terms.priority
    if record.terms.concurrency_key is not None:
        form["concurrency_key"] = record.terms.concurrency_key
        form["concurrency_limit"] = record.terms.concurrency_limit
    return form


def outcome_form(record: TaskRecord) -> Task:
    """Return a task's form with its result or error, if it has one."""
    form = task_form(record)
    if record.result is not None:
        form["result"] = codec.unpack(record.result)
    if record.error is not None:
        form["error"] = Error(**record.error)  # type: ignore[typeddict-item]  # as its worker wrote it
    return form


def step_form(step_id: str, record: StepRecord) -> Step:
    """Return a step's form."""
    form = Step(id=step_id, name=record.name, kind=record.kind, attempt=record.attempt, started_at=record.started_at)
    if record.ended_at is not None:
        form["ended_at"] = record.ended_at
    if record.seqs is not None:
        form["seqs"] = record.seqs
    if record.error is not None:
        facts = {key: value for key, value in record.error.items() if key in ("code", "type", "message")}
        form["error"] = Error(**facts)  # type: ignore[typeddict-item]  # as its worker wrote it
    if record.until is not None:
        form["until"] = record.until
    if record.message is not None:
        form["message"] = record.message
    if record.child is not None:
        form["child"] = record.child
    return form


def dead_letter_form(record: TaskRecord) -> DeadLetter:
    """Return a failed task's form, with its error but for the traceback."""
    error = record.error or {}
    form = DeadLetter(
        task_id=record.task_id,
        workflow=record.workflow,
        version=record.version,
        error=Error(
            code=error.get("code", "workflow_error"), type=error.get("type", ""), message=error.get("message", "")
        ),
        attempts=record.attempt,
        created_at=record.created_at,
        ended_at=record.ended_at or record.created_at,
        metadata=record.metadata,
    )
    if record.session_id is not None:
        form["session_id"] = record.session_id
    if record.requeue_of is not None:
        form["requeue_of"] = record.requeue_of
    return form


def workflow_form(record: WorkflowRecord) -> Workflow:
    """Return a workflow's form."""
    form = Workflow(
        name=record.name,
        version=record.version,
        description=record.description,
        input_schema=record.input_schema,
        input_optional=record.input_optional,
        max_attempts=record.max_attempts,
    )
    if record.timeout_ms is not None:
        form["timeout_ms"] = record.timeout_ms
    if record.total_timeout_ms is not None:
        form["total_timeout_ms"] = record.total_timeout_ms
    if record.start_within_ms is not None:
        form["start_within_ms"] = record.start_within_ms
    if record.concurrency is not None:
        form["concurrency"] = record.concurrency
    if record.max_running is not None:
        form["max_running"] = record.max_running
    if record.priority != Priority.NORMAL:
        form["priority"] = Priority(record.priority)
    return form


def worker_form(record: WorkerRecord) -> Worker:
    """Return a worker's form."""
    return Worker(
        worker_id=record.worker_id,
        host=record.host,
        pid=record.pid,
        version=record.version,
        workflows=record.workflows,
        concurrency=record.concurrency,
        running=record.running,
        started_at=record.started_at,
        lease_ms=record.lease_ms,
    )


def worker_form_for_others(record: WorkerRecord, running: int) -> Worker:
    """Return a worker's form for tenants to whom it is not told where it runs; `running` is of the tenant's tasks."""
    form = worker_form(record)
    del form["host"], form["pid"]
    form["running"] = running
    return form


def fleet_form(standing: Standing, backlogs: Mapping[str, Backlog], workers: list[Worker], dead_letters: int) -> Fleet:
    """Return how the deployment stands for who may know of these queues and workers."""
    workers_of = standing.workers_of
    return Fleet(
        queues=[
            QueueStanding(
                workflow=name,
                depth=backlog.depth,
                oldest_age_ms=int(backlog.oldest_s * 1000),
                workers=workers_of[name],
            )
            for name, backlog in backlogs.items()
        ],
        workers=workers,
        dead_letters=dead_letters,
    )
