"""How long the tasks of a killed worker waited until another attempt of them began. No I/O."""

from collections.abc import Iterable, Sequence

from tailplane.protocol.events import PlatformType
from tests.chaos.attempts import Attempt, divide
from tests.chaos.faults import Kind
from tests.chaos.history import Inflicted, TaskHistory


def recoveries(histories: Iterable[TaskHistory], inflicted: Sequence[Inflicted]) -> list[float]:
    """Return the seconds from the kill to the next attempt, for each task that a killed worker ran at the time."""
    kills = {one.pid: one.began for one in inflicted if one.fault.kind is Kind.WORKER_KILLED}
    found = []
    for history in histories:
        attempts, _ = divide(history.again)
        by_number = {attempt.number: attempt for attempt in attempts}
        for run in history.runs:
            killed_at = kills.get(run.pid)
            began = _next_beginning(by_number, run.attempt)
            # One that began before the kill was taken away already, as from a worker that was stopped for long.
            if killed_at is not None and began is not None and run.at <= killed_at < began:
                found.append(began - killed_at)
    return found


def _next_beginning(attempts: dict[int, Attempt], number: int) -> float | None:
    """Return when the attempt began that followed the loss of this one; None where it was not lost."""
    lost, following = attempts.get(number), attempts.get(number + 1)
    return following.began if lost and following and lost.ended_by == PlatformType.WORKER_LOST else None
