"""How long recovery takes is measured from the kill to the next attempt's beginning."""

from tests.chaos.faults import Fault, Kind
from tests.chaos.history import Inflicted, Run, TaskHistory
from tests.chaos.recovery import recoveries

from .made_up import TASK, beginning, history, said, succeeded, written

KILL = Inflicted(Fault(0.0, Kind.WORKER_KILLED, 0, 1.0), 1000.0, 1002.0, pid=77)


def _taken_over(at: float) -> TaskHistory:
    lost = said("task.worker_lost", 1)
    stream = [said("task.queued", 0), *beginning(1), *written(1, 3), lost, *beginning(2, at), *written(2), succeeded(2)]
    seen = history(stream)
    seen.runs = [Run(TASK, 1, 77, 990.0), Run(TASK, 2, 78, at)]
    return seen


def test_a_recovery_lasts_from_the_kill_to_the_next_beginning() -> None:
    assert recoveries([_taken_over(1004.0)], [KILL]) == [4.0]


def test_a_task_that_was_taken_away_before_the_kill_does_not_count() -> None:
    assert recoveries([_taken_over(995.0)], [KILL]) == []


def test_a_task_of_another_worker_does_not_count() -> None:
    other = _taken_over(1004.0)
    other.runs[0] = Run(TASK, 1, 76, 990.0)
    assert recoveries([other], [KILL]) == []
