"""The worker's settings, read once from the environment (`TAILPLANE_<FIELD>`), beside those of its deployment."""

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from tailplane.broker.settings import DeploymentSettings, Duration


class Settings(DeploymentSettings):
    """What a worker process needs to know."""

    concurrency: int = Field(100, ge=1, le=100_000)
    """Tasks that this process runs at once.

    Workflows mostly wait for others; threads of sync ones come out of it too.
    """

    lease: Duration = timedelta(seconds=3)
    """How long the process may be silent before its tasks are given to others.

    Below 3 s a busy machine loses leases.
    """

    renew_every: Duration = timedelta(seconds=1)
    """How often the lease is renewed: a third of it, so that two renewals may fail."""

    poll_every: Duration = timedelta(seconds=1)
    """How often an idle worker looks at the queue without being rung: the safety net for a lost doorbell."""

    stop_grace: Duration = timedelta(milliseconds=500)
    """How long cancelled code may take to unwind before the task is ended without it."""

    park_after: Duration = timedelta(seconds=10)
    """How long a task may wait for a message in its slot; past it the task is parked, and begun again when one comes.

    To begin again takes some milliseconds, and what its steps did is not done again.
    """

    drain_grace: Duration = timedelta(seconds=20)
    """How long running tasks may take to finish after SIGTERM; what is left is handed back. Below Kubernetes' 30 s."""

    max_event_bytes: int = Field(1024 * 1024, ge=1024)
    """Largest event or result, in bytes of msgpack. An entry of a stream should stay small; keep files elsewhere."""

    max_entry_bytes: int = Field(256 * 1024, ge=1024)
    """Events are packed into one entry up to this many bytes. A reader takes entries whole."""

    task_buffer_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """What one task may have written without Redis having taken it; beyond it `write_event_to_stream` raises."""

    emit_buffer_bytes: int = Field(1024 * 1024, ge=1024)
    """What one task may have unsent before `await ctx.emit(...)` waits."""

    worker_buffer_bytes: int = Field(256 * 1024 * 1024, ge=0)
    """What all tasks of the process together may have unsent beyond `emit_buffer_bytes` each."""

    max_output_bytes: int = Field(1024 * 1024 * 1024, ge=1024)
    """What one attempt may write in all, in bytes of msgpack: streams live in Redis' memory."""

    max_task_events: int = Field(10_000_000, ge=10)
    """How many events a task's stream may have, over all attempts."""

    max_durable_calls: int = Field(10_000, ge=1)
    """How many steps, waits and children a task may have. Each stays in its record, and a later attempt reads all."""

    max_log_events: int = Field(10_000, ge=0)
    """How many records of its log one attempt may turn into events (`log_events`); more are dropped, and counted. Far
    below `max_task_events`: a log that runs away must not end the task."""

    kept_bytes: int = Field(16 * 1024 * 1024, ge=0)
    """How much memory the process gives to what was sent last, to send it again where a failover has lost it.

    An entry takes 240 bytes more than what is in it. At least what the process writes in the time by which a replica
    lags behind its primary.
    """

    blocked_after: Duration = timedelta(seconds=1)
    """How long the workflows' loop may stand still before the log names who blocks it."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for less, more in (("renew_every", "lease"), ("emit_buffer_bytes", "task_buffer_bytes")):
            if getattr(self, less) >= getattr(self, more):
                raise ValueError(f"{less} must be less than {more}")
        return self
