"""What the control plane answers, as pydantic models. Shapes: PROTOCOL.md 2; fields added later are ignored. No I/O.

Times are seconds since the epoch, as in `Event.time`.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tailplane.protocol.errors import TailplaneError
from tailplane.protocol.priorities import Priority
from tailplane.protocol.states import State

Model = TypeVar("Model", bound="Answer")


class Answer(BaseModel):
    """What all of them have in common."""

    model_config = ConfigDict(frozen=True)


class ErrorInfo(Answer):
    """Why a task did not succeed."""

    code: str = "workflow_error"
    type: str = ""
    message: str = ""
    traceback: str | None = None


class TaskStatus(Answer):
    """A task as the control plane sees it."""

    task_id: str
    workflow: str
    version: str = ""
    state: State
    attempt: int = 0
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    session_id: str | None = None
    worker_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    position: int | None = None
    superseded: list[tuple[int, int]] = Field(default_factory=list)
    requeue_of: str | None = None
    parent_id: str | None = None
    due_at: float | None = None
    schedule: str | None = None
    priority: Priority = Priority.NORMAL
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    result: Any = None
    error: ErrorInfo | None = None


class StepInfo(Answer):
    """Something that a task does once, however many attempts it takes: a step, a wait, a child."""

    id: str
    name: str
    kind: str = "step"
    attempt: int = 0
    started_at: float
    ended_at: float | None = None
    seqs: tuple[int, int] | None = None
    error: ErrorInfo | None = None
    until: float | None = None
    message: int | None = None
    child: str | None = None


class StepList(Answer):
    """What a task has done durably, in the order in which it began."""

    steps: list[StepInfo]


class DeliveredMessage(Answer):
    """A message that is in a task's inbox."""

    task_id: str
    number: int


class TaskPage(Answer):
    """One page of a list of tasks, newest first."""

    tasks: list[TaskStatus]
    next_page: str | None = None


class DeadLetter(Answer):
    """A task that failed, and waits for somebody to look at it. Its error is without the traceback."""

    task_id: str
    workflow: str
    version: str = ""
    error: ErrorInfo
    attempts: int = 0
    created_at: float
    ended_at: float
    session_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    requeue_of: str | None = None


class DeadLetterPage(Answer):
    """One page of dead letters, newest first."""

    dead_letters: list[DeadLetter]
    next_page: str | None = None


class SessionInfo(Answer):
    """A named group of tasks."""

    session_id: str
    created_at: float
    closed: bool = False
    metadata: dict[str, str] = Field(default_factory=dict)


class StateValue(Answer):
    """A value that the tasks of a session share."""

    value: Any = None
    version: int


class StateValues(Answer):
    """All values that the tasks of a session share."""

    state: dict[str, StateValue]


class WorkflowInfo(Answer):
    """A workflow that some worker has registered."""

    name: str
    version: str = ""
    description: str = ""
    input_schema: dict[str, Any] | bool = Field(default_factory=dict)
    input_optional: bool = False
    timeout_ms: int | None = None
    total_timeout_ms: int | None = None
    start_within_ms: int | None = None
    max_attempts: int = 1
    concurrency: int | None = None
    max_running: int | None = None
    priority: Priority = Priority.NORMAL


class WorkflowList(Answer):
    """All workflows."""

    workflows: list[WorkflowInfo]


class WorkerInfo(Answer):
    """A worker process that holds a lease."""

    worker_id: str
    host: str = ""
    pid: int = 0
    version: str = ""
    workflows: list[str] = Field(default_factory=list)
    concurrency: int = 0
    running: int = 0
    started_at: float
    lease_ms: int = 0


class WorkerList(Answer):
    """All workers."""

    workers: list[WorkerInfo]


class QueueInfo(Answer):
    """What waits for one workflow, and how many workers run it."""

    workflow: str
    depth: int = 0
    oldest_age_ms: int = 0
    workers: int = 0


class FleetInfo(Answer):
    """How the deployment stands."""

    queues: list[QueueInfo]
    workers: list[WorkerInfo]
    dead_letters: int = 0


class KeyLimits(Answer):
    """What an API key may take, beside its tenant's other keys; None: it has no such limit."""

    submits_per_second: float | None = None
    submits_left: int | None = None
    max_readers: int | None = None
    readers: int = 0


class LimitsInfo(Answer):
    """What a tenant may take, and takes now; None: there is no such limit.

    Attributes:
        submits_left: how many tasks may be submitted at once now.
        max_queued, queued: tasks that may wait in each workflow's queue, and those that do, by workflow.
        readers: streams that are read; without a limit, through the control plane that answered alone.
        stored_bytes: what tasks have written within the retention, by estimate.
        key: the limits of the API key that asked.
    """

    tenant: str
    weight: int = 1
    submits_per_second: float | None = None
    submits_left: int | None = None
    max_queued: int | None = None
    queued: dict[str, int] = {}
    max_running: int | None = None
    running: int = 0
    max_readers: int | None = None
    readers: int = 0
    max_stored_bytes: int | None = None
    stored_bytes: int = 0
    key_id: str | None = None
    key: KeyLimits | None = None


def parse(model: type[Model], answer: object) -> Model:
    """Return a decoded answer as a model.

    Raises:
        TailplaneError: it has another shape, so that the server is no control plane or one of another age.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise TailplaneError(f"the control plane's answer is no {model.__name__}: {error}") from None
