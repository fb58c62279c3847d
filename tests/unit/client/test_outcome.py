import pytest

from tailplane.client.models import TaskStatus
from tailplane.client.outcome import error_of_event, error_of_task
from tailplane.protocol.errors import TaskCancelled, TaskExpired, TaskFailed
from tailplane.protocol.events import Event, PlatformType
from tailplane.protocol.states import State

ERROR = {"code": "timeout", "type": "builtins.TimeoutError", "message": "too slow", "traceback": "File x, line 1"}


def terminal(type_: PlatformType, data: object) -> Event:
    return Event(9, 1, 0.0, data, type_, kind="platform")


def record(state: State, **more: object) -> TaskStatus:
    return TaskStatus.model_validate({"task_id": "t_1", "workflow": "w", "state": state, "created_at": 1.0} | more)


def test_success_is_no_error() -> None:
    assert error_of_event("t_1", terminal(PlatformType.SUCCEEDED, {"result": 1})) is None
    assert error_of_task(record(State.SUCCEEDED)) is None


def test_a_failure_carries_the_remote_exception() -> None:
    for error in (
        error_of_event("t_1", terminal(PlatformType.FAILED, {"error": ERROR})),
        error_of_task(record(State.FAILED, error=ERROR)),
    ):
        assert isinstance(error, TaskFailed)
        assert (error.task_id, error.error_type, error.message) == ("t_1", "builtins.TimeoutError", "too slow")
        assert (error.error_code, error.remote_traceback) == ("timeout", "File x, line 1")
        assert "too slow" in str(error)
        assert "File x, line 1" in str(error)


def test_the_reason_of_a_cancellation_is_told() -> None:
    error = error_of_event("t_1", terminal(PlatformType.CANCELLED, {"reason": "enough"}))
    assert isinstance(error, TaskCancelled)
    assert (str(error), error.facts["reason"]) == ("task t_1 was cancelled: enough", "enough")

    error = error_of_event("t_1", terminal(PlatformType.CANCELLED, {"reason": None}))
    assert str(error) == "task t_1 was cancelled"


def test_expiry_has_its_own_class() -> None:
    assert isinstance(error_of_event("t_1", terminal(PlatformType.EXPIRED, {"reason": "late"})), TaskExpired)
    assert isinstance(error_of_task(record(State.EXPIRED)), TaskExpired)


def test_a_failure_without_details_is_a_failure_still() -> None:
    assert isinstance(error_of_event("t_1", terminal(PlatformType.FAILED, None)), TaskFailed)
    assert isinstance(error_of_task(record(State.FAILED)), TaskFailed)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.WAITING])
def test_a_task_that_runs_has_no_outcome(state: State) -> None:
    with pytest.raises(ValueError, match="has not ended"):
        error_of_task(record(state))
