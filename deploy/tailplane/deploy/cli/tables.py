"""Tables for people. Programs get --json."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from tailplane.client import TaskStatus, WorkerInfo, WorkflowInfo
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.progress import describe_age
from tailplane.protocol.states import State

_COLOURS = {
    State.QUEUED: "yellow",
    State.RUNNING: "cyan",
    State.WAITING: "yellow",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.CANCELLED: "magenta",
    State.EXPIRED: "magenta",
}


def print_tasks(tasks: Iterable[TaskStatus], now: float) -> None:
    """Print tasks; `now` in seconds since the epoch."""
    rows: list[list[str | Text]] = []
    for task in tasks:
        took = ""
        if task.started_at is not None:
            took = describe_age(max(0.0, (task.ended_at or now) - task.started_at))
        age = f"{describe_age(max(0.0, now - task.created_at))} ago"
        state = Text(str(task.state), style=_COLOURS[task.state])
        rows.append([task.task_id, task.workflow, state, str(task.attempt), age, took])
    _print(["task", "workflow", "state", "attempt", "created", "took"], rows)


def print_workflows(workflows: Iterable[WorkflowInfo], workers_of: dict[str, int]) -> None:
    """Print workflows and how many living workers run each."""
    rows: list[list[str | Text]] = []
    for workflow in workflows:
        count = workers_of.get(workflow.name, 0)
        workers = Text(str(count), style="" if count else "red")
        rows.append([workflow.name, workflow.version, workers, workflow.description.partition("\n")[0]])
    _print(["workflow", "version", "workers", "description"], rows)


def print_workers(workers: Iterable[WorkerInfo], now: float) -> None:
    """Print workers; `now` in seconds since the epoch."""
    rows = [
        [
            worker.worker_id,
            f"{worker.host}:{worker.pid}",
            f"{worker.running}/{worker.concurrency}",
            describe_age(max(0.0, now - worker.started_at)),
            ", ".join(worker.workflows),
        ]
        for worker in workers
    ]
    _print(["worker", "host:pid", "tasks", "up", "workflows"], rows)


def _print(titles: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ignore")
    for row in rows:
        # As Text: a workflow's name must not be read as markup.
        table.add_row(*(cell if isinstance(cell, Text) else Text(terminal.printable(cell)) for cell in row))
    if table.row_count:
        terminal.console().print(table, crop=False)
