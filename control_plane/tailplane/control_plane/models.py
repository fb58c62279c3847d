"""Request bodies, as pydantic models: read strictly, and OpenAPI is made from them. Shapes: PROTOCOL.md 2. No I/O."""

from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from tailplane.control_plane.moments import FURTHEST, DelayMs, Moment
from tailplane.protocol.errors import InvalidRequest
from tailplane.protocol.priorities import Priority

WORKFLOW_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"

Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=32, description="Labels of the caller's own."),
]


# The queue's scripts take a line break for the end of a key.
ConcurrencyKey = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
MOST_AT_ONCE = 1_000_000


class Body(BaseModel):
    """A request's body. An unknown field is refused: more often than not it is a misspelt one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NewSession(Body):
    """What a new session is given."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"user": "ada"}}]})

    metadata: Metadata = Field(default_factory=dict)


class Submit(Body):
    """A request to run a workflow."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"workflow": "my_workflow", "input": {"n": 3}, "metadata": {"user": "ada"}}]}
    )

    workflow: str = Field(pattern=WORKFLOW_PATTERN, description="Name of a workflow that workers have registered.")
    input: Any = Field(None, description="The workflow's input; it must fit its `input_schema`.")
    metadata: Metadata = Field(default_factory=dict)
    delay_ms: DelayMs | None = Field(None, description="How long to put the start off.")
    run_at: Moment | None = Field(None, description="When to start it: a time that has passed means now.")
    priority: Annotated[Priority, Field(strict=False)] | None = Field(
        None, description="Which tasks are claimed first; absent: as the workflow says."
    )
    concurrency_key: ConcurrencyKey | None = Field(
        None,
        description="Of the tasks with this key, whichever their workflows, at most `concurrency_limit` run at once.",
    )
    concurrency_limit: int = Field(
        1, ge=1, le=MOST_AT_ONCE, description="Of `concurrency_key`; the newest task's counts for all of the key."
    )

    @model_validator(mode="after")
    def _is_put_off_once(self) -> Self:
        if self.delay_ms is not None and self.run_at is not None:
            raise ValueError("give delay_ms or run_at, not both")
        return self

    @model_validator(mode="after")
    def _limits_a_key(self) -> Self:
        if self.concurrency_key is None and self.concurrency_limit != 1:
            raise ValueError("concurrency_limit is of a concurrency_key: give that, too")
        return self

    @property
    def is_put_off(self) -> bool:
        """Whether it is to start later."""
        return bool(self.delay_ms) or self.run_at is not None

    def delay_from(self, now_ms: int) -> timedelta:
        """Return how long after `now_ms`, in ms since the epoch, it is to start.

        Raises:
            InvalidRequest: it is put off too far.
        """
        delay = timedelta(milliseconds=self.delay_ms or 0)
        if self.run_at is not None:
            delay = max(timedelta(), timedelta(milliseconds=round(self.run_at * 1000) - now_ms))
        if delay > FURTHEST:
            said = f"that is more than {FURTHEST.days} days ahead"
            raise InvalidRequest(f"run_at: {said}", errors=[{"loc": ["body", "run_at"], "msg": said}])
        return delay


class SendEvent(Body):
    """A message to a task."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "Approval", "data": {"approved": True}}]})

    type: str | None = Field(
        None, min_length=1, max_length=200, description="What it is called: the name that the workflow waits for."
    )
    data: Any = Field(None, description="What the workflow gets.")

    @field_validator("type")
    @classmethod
    def _check_type(cls, type_: str | None) -> str | None:
        if type_ is not None and type_.startswith("task."):
            raise ValueError("names that begin with 'task.' are Tailplane's own")
        return type_


class SetState(Body):
    """What a value of a session's state is to be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"value": {"step": 2}, "version": 1}]})

    value: Any = Field(description="At most 64 KiB as msgpack.")
    version: int | None = Field(
        None, ge=0, le=2**53, description="The version that it must have now; 0: it must not be there; null: any."
    )


class Cancel(Body):
    """Why a task is cancelled."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "no longer needed"}]})

    reason: str | None = Field(None, max_length=512, description="The workflow and the stream's readers are told.")
