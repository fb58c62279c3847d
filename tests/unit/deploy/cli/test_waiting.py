import pytest

from tailplane.client import WorkerInfo
from tailplane.deploy.cli.waiting import explanation


def worker(running: int, *workflows: str) -> WorkerInfo:
    return WorkerInfo(worker_id="w", started_at=0, workflows=list(workflows), concurrency=2, running=running)


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        ([], "no living worker serves greet: the task waits for one"),
        ([worker(0, "other")], "no living worker serves greet: the task waits for one"),
        ([worker(2, "greet")], "1 worker serves greet, all busy: the task waits for a free place"),
        ([worker(2, "greet"), worker(3, "greet"), worker(0)], "2 workers serve greet, all busy"),
        ([worker(2, "greet"), worker(1, "greet")], "2 workers serve greet: the task waits for its turn"),
    ],
)
def test_a_queued_task_waits_for_a_worker_or_for_a_place(workers: list[WorkerInfo], words: str) -> None:
    assert explanation("greet", workers).startswith(words)
