"""What is kept of a run that broke a promise, beside the logs: a page for each task, and one for the faults."""

from collections.abc import Sequence
from pathlib import Path

from tailplane.protocol.events import Event
from tests.chaos.checks import Violation
from tests.chaos.history import Inflicted, TaskHistory


def write(
    directory: Path, broken: Sequence[Violation], histories: Sequence[TaskHistory], inflicted: Sequence[Inflicted]
) -> None:
    """Write down what was seen of the tasks with violations, and what was done to the fleet. Times are by one clock."""
    faults = sorted(inflicted, key=lambda one: one.began)
    lines = [f"{one.began:.3f} to {one.ended:.3f} pid {one.pid}: {one.fault}" for one in faults]
    (directory / "faults.txt").write_text("\n".join(lines) + "\n")
    for history in histories:
        mine = [str(violation) for violation in broken if violation.task_id == history.task_id]
        if mine:
            name = f"task-{history.order.index}.txt"
            (directory / name).write_text("\n".join([*mine, *_page(history)]) + "\n")


def _page(history: TaskHistory) -> list[str]:
    live = history.again if history.again == history.live else history.live
    return [
        "",
        str(history.order),
        f"record: {history.record}",
        f"outcome: {history.outcome}; cancelling returned {history.cancelled}",
        f"shown: {history.shown}"[:2000],
        f"troubles: {history.troubles}",
        *(f"run: {run}" for run in history.runs),
        "",
        "the stream:",
        *map(_line, history.again),
        "",
        "as it was seen live:",
        *(["the same"] if live is history.again else map(_line, live)),
    ]


def _line(event: Event) -> str:
    return f"{event.seq} {event.attempt} {event.time:.3f} {event.kind} {event.type or ''} {event.data!r}"[:300]
