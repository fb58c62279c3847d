"""What `tailplane top` makes of the control plane's answers."""

import io

from rich.console import Console

from tailplane.client import FleetInfo, QueueInfo, TaskStatus, WorkerInfo
from tailplane.deploy.cli.overview import NEWEST, overview_of, picture
from tailplane.protocol.states import State

NOW = 1_000_000.0


def task(state: State, created: float, ended: float | None = None) -> TaskStatus:
    return TaskStatus(task_id="t", workflow="flow", state=state, created_at=NOW - created,
                      ended_at=None if ended is None else NOW - ended)  # fmt: skip


FLEET = FleetInfo(
    queues=[
        QueueInfo(workflow="quiet", workers=2),
        QueueInfo(workflow="old", depth=3, oldest_age_ms=125_000, workers=0),
    ],
    workers=[
        WorkerInfo(worker_id="w_1", host="here\x1b[2J", pid=7, version="0.1.0", running=2, concurrency=10,
                   started_at=NOW - 90, lease_ms=2400),
        WorkerInfo(worker_id="w_2", host="there", pid=8, running=3, concurrency=10, started_at=NOW, lease_ms=-10),
    ],
    dead_letters=4,
)  # fmt: skip


def drawn(note: str = "", width: int = 200, fleet: FleetInfo = FLEET) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(picture(overview_of(fleet, [], NOW), note))
    return out.getvalue().splitlines()


def test_ends_and_submits_of_the_last_minute_are_counted() -> None:
    seen = overview_of(
        FLEET,
        [
            task(State.RUNNING, 1),
            task(State.SUCCEEDED, 30, 5),
            task(State.FAILED, 59, 59),
            task(State.SUCCEEDED, 300, 200),
        ],
        NOW,
    )
    assert seen.ended == {"succeeded": 1, "failed": 1, "cancelled": 0, "expired": 0}
    assert seen.submitted_per_s == 3 / 60
    assert seen.running == 5


def test_more_submits_than_are_looked_at_are_counted_over_the_time_that_they_cover() -> None:
    seen = overview_of(FLEET, [task(State.QUEUED, index / 50) for index in range(NEWEST)], NOW)
    assert round(seen.submitted_per_s) in (50, 51)


def test_what_waits_longest_and_who_is_busiest_come_first() -> None:
    lines = drawn()
    assert "2 workers  5/20 tasks run  3 wait  4 dead letters" in lines[0]
    queues = lines.index(next(line for line in lines if line.startswith("workflow")))
    assert lines[queues + 1].split() == ["old", "3", "2", "min", "0"]
    assert lines[queues + 2].split() == ["quiet", "0", "2"]
    workers = lines.index(next(line for line in lines if line.startswith("worker ")))
    assert lines[workers + 1].split() == ["w_2", "there:8", "3/10", "run", "out", "0.0", "s"]
    assert lines[workers + 2].split()[:4] == ["w_1", r"here\x1b[2J:7", "2/10", "2.4"]


def test_one_is_not_told_as_several() -> None:
    head = drawn(fleet=FLEET.model_copy(update={"workers": FLEET.workers[:1], "dead_letters": 1}))[0]
    assert head.partition("  ")[2].rstrip() == "1 worker  2/10 tasks run  3 wait  1 dead letter"


def test_a_note_stands_above_the_tables() -> None:
    assert "no answer" in drawn("no answer")[2]


def test_another_program_reads_all_of_it() -> None:
    found = overview_of(FLEET, [], NOW).as_dict()
    assert found["queues"][1] == {"workflow": "old", "depth": 3, "oldest_age_ms": 125_000, "workers": 0}
    assert (found["running"], found["dead_letters"], found["at"]) == (5, 4, NOW)
