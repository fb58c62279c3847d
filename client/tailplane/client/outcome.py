"""How a task's end is told: from a terminal event, or from its record, to an error or a result. No I/O."""

from collections.abc import Mapping
from typing import Any, assert_never

from tailplane.client.models import ErrorInfo, TaskStatus, parse
from tailplane.protocol.errors import TaskCancelled, TaskError, TaskExpired, TaskFailed
from tailplane.protocol.events import TERMINAL_TYPES, Event
from tailplane.protocol.states import State


def error_of_event(task_id: str, event: Event) -> TaskError | None:
    """Return what a terminal event says went wrong; None where the task succeeded."""
    data = event.data if isinstance(event.data, Mapping) else {}
    return _error(task_id, TERMINAL_TYPES[event.type or ""], data.get("error"), data.get("reason"))


def error_of_task(task: TaskStatus) -> TaskError | None:
    """Return what the record of an ended task says went wrong; None where the task succeeded."""
    return _error(task.task_id, task.state, task.error, task.error.message if task.error else None)


def _error(task_id: str, state: State, error: Any, reason: str | None) -> TaskError | None:
    said = f": {reason}" if reason else ""
    match state:
        case State.SUCCEEDED:
            return None
        case State.FAILED:
            return _failed(task_id, error if isinstance(error, ErrorInfo) else parse(ErrorInfo, error or {}))
        case State.CANCELLED:
            return TaskCancelled(f"task {task_id} was cancelled{said}", task_id=task_id, reason=reason)
        case State.EXPIRED:
            return TaskExpired(f"task {task_id} expired before it started{said}", task_id=task_id, reason=reason)
        case State.QUEUED | State.RUNNING | State.WAITING:
            raise ValueError(f"task {task_id} is {state}: it has not ended")
        case _:
            assert_never(state)


def _failed(task_id: str, error: ErrorInfo) -> TaskFailed:
    return TaskFailed(
        task_id=task_id,
        error_type=error.type,
        message=error.message,
        remote_traceback=error.traceback or "",
        error_code=error.code,
    )
