"""How long the tasks of a killed worker waited until another attempt of them began. No I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tailplane.protocol.events import PlatformType
from tests.chaos.attempts import Attempt, divide
from tests.chaos.faults import Kind
from tests.chaos.history import Inflicted, TaskHistory

# Whoever gives a lost worker's tasks back needs these: what else breaks them delays it.
_NEEDED = (Kind.STORE_RESTARTED, Kind.CONTROL_PLANE_CUT, Kind.CONTROL_PLANE_KILLED, Kind.CONTROL_PLANE_DRAINED)
# Seconds for which a control plane distrusts stale leases after the store was away.
_TRUST = 5.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """A task that was taken over from a killed worker.

    Attributes:
        seconds: from the kill to the next attempt's beginning.
        is_undisturbed: whether Valkey and the control planes stood all the time, and some seconds before.
    """

    task_id: str
    seconds: float
    is_undisturbed: bool


def recoveries(histories: Iterable[TaskHistory], inflicted: Sequence[Inflicted]) -> list[Recovery]:
    """Return the recoveries of all tasks that a killed worker ran at the time."""
    kills = {one.pid: one.began for one in inflicted if one.fault.kind is Kind.WORKER_KILLED}
    disturbed = [(one.began, one.ended) for one in inflicted if one.fault.kind in _NEEDED]
    found = []
    for history in histories:
        attempts, _ = divide(history.again)
        by_number = {attempt.number: attempt for attempt in attempts}
        for run in history.runs:
            killed_at = kills.get(run.pid)
            if killed_at is None or run.at > killed_at:
                continue
            began = _next_beginning(by_number, run.attempt)
            # Taken away before already, as from a worker that was stopped for long.
            if began is not None and began > killed_at:
                is_undisturbed = not any(begin < began and end > killed_at - _TRUST for begin, end in disturbed)
                found.append(Recovery(history.task_id, began - killed_at, is_undisturbed))
    return found


def _next_beginning(attempts: dict[int, Attempt], number: int) -> float | None:
    """Return when the attempt began that followed the loss of this one; None where it was not lost."""
    lost, following = attempts.get(number), attempts.get(number + 1)
    return following.began if lost and following and lost.ended_by == PlatformType.WORKER_LOST else None
