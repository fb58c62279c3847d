"""Tables for people. Programs get --json."""

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from tailplane.broker import TenantRecord
from tailplane.client import (
    ApiKeyInfo,
    DeadLetter,
    LimitsInfo,
    ScheduleInfo,
    StepInfo,
    TaskStatus,
    WorkerInfo,
    WorkflowInfo,
)
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.moments import describe_moment
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

# Of a column that wraps: narrower, a description is a tower of syllables.
_NARROWEST = 24
_UNBOUNDED = 100_000
# Characters of an error's message; all of it is in the task.
_MOST_SAID = 200
# Between two columns, as rich has it.
_GAP = 2


def print_tasks(tasks: Iterable[TaskStatus], now: float) -> None:
    """Print tasks; `now` in seconds since the epoch."""
    rows: list[list[str | Text]] = []
    for task in tasks:
        # Of its last attempt: when the first one began is not kept.
        took = ""
        if task.started_at is not None:
            took = describe_age(max(0.0, (task.ended_at or now) - task.started_at))
        age = f"{describe_age(max(0.0, now - task.created_at))} ago"
        state = Text(str(task.state), style=_COLOURS[task.state])
        rows.append([task.task_id, task.workflow, state, str(task.attempt), age, took])
    _print(["task", "workflow", "state", "attempt", "created", "attempt took"], rows)


def print_steps(steps: Iterable[StepInfo], until: float) -> None:
    """Print what a task has done durably; what is open lasts to `until`, in seconds since the epoch: now, or the task's
    end.
    """
    rows: list[list[str | Text]] = []
    for step in steps:
        took = describe_age(max(0.0, (step.ended_at or until) - step.started_at)) if _has_an_end(step) else ""
        began = time.strftime("%H:%M:%S", time.localtime(step.started_at))
        wrote = "" if step.seqs is None else f"{step.seqs[0]}-{step.seqs[1]}"
        rows.append([step.id, step.kind, step.name, _standing_of(step), str(step.attempt), began, took, wrote])
    _print(["id", "kind", "step", "state", "attempt", "began", "took", "events"], rows, wraps="step")


def _has_an_end(step: StepInfo) -> bool:
    # What was gathered has none of its own: its parts have.
    return step.kind != "gather"


def _standing_of(step: StepInfo) -> Text:
    if step.error is not None:
        return Text("failed", style="red")
    if step.ended_at is not None:
        return Text("timed out" if step.message == 0 else "finished", style="green")
    return Text(("waiting" if step.kind == "wait" else "open") if _has_an_end(step) else "", style="cyan")


def print_dead_letters(letters: Iterable[DeadLetter], now: float) -> None:
    """Print dead letters; `now` in seconds since the epoch."""
    rows: list[list[str | Text]] = []
    for letter in letters:
        age = f"{describe_age(max(0.0, now - letter.ended_at))} ago"
        said = letter.error.message.partition("\n")[0][:_MOST_SAID]
        rows.append([letter.task_id, letter.workflow, str(letter.attempts), age, f"{letter.error.code}: {said}"])
    _print(["task", "workflow", "attempts", "failed", "error"], rows, wraps="error")


def print_schedules(schedules: Iterable[ScheduleInfo]) -> None:
    """Print schedules; times are of this machine's zone."""
    rows: list[list[str | Text]] = []
    for each in schedules:
        if each.paused:
            following = Text("paused", style="yellow")
        else:
            following = Text(describe_moment(each.next_at) if each.next_at is not None else "never")
        last = describe_moment(each.last_due_at) if each.last_due_at is not None else ""
        missed = Text(str(each.missed), style="red" if each.missed else "")
        fired, skipped = str(each.fired), str(each.skipped)
        rows.append([each.name, each.workflow, describe_times(each), following, last, fired, skipped, missed])
    _print(["schedule", "workflow", "when", "next", "last", "fired", "skipped", "missed"], rows)


def describe_times(schedule: ScheduleInfo) -> str:
    """Return in words when a schedule is due."""
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.time_zone}"
    if schedule.every_ms is not None:
        return f"every {timedelta(milliseconds=schedule.every_ms)}"
    return f"at {describe_moment(schedule.run_at)}" if schedule.run_at is not None else ""


def print_keys(keys: Iterable[ApiKeyInfo], with_tenants: bool) -> None:
    """Print API keys, with their tenants where these may differ; times are of this machine's zone."""
    now = time.time()
    rows: list[list[str | Text]] = []
    for each in keys:
        if each.revoked_at is not None:
            stands = Text(f"revoked {describe_moment(each.revoked_at)}", style="red")
        elif each.expires_at is None:
            stands = Text("good", style="green")
        elif each.expires_at <= now:
            stands = Text(f"expired {describe_moment(each.expires_at)}", style="red")
        else:
            stands = Text(f"good until {describe_moment(each.expires_at)}", style="green")
        # The day is enough, and lets most keys have a line of 80 columns.
        created = describe_moment(each.created_at).partition(" ")[0]
        tenant = [each.tenant] if with_tenants else []
        rows.append([each.key_id, *tenant, each.name, ", ".join(each.scopes), created, stands])
    titles = ["key", *(["tenant"] if with_tenants else []), "name", "scopes", "created", "state"]
    _print(titles, rows, wraps="name")


def print_tenants(tenants: Iterable[TenantRecord]) -> None:
    """Print tenants and their limits; an empty cell: the deployment's, where it has one."""
    rows: list[list[str | Text]] = []
    for each in tenants:
        bounds = (each.max_running, each.max_queued, each.submits_per_second, each.max_readers, each.max_stored_bytes)
        said = ["" if bound is None else f"{bound:g}" if isinstance(bound, float) else str(bound) for bound in bounds]
        rows.append([each.tenant, str(each.weight), *said])
    _print(["tenant", "weight", "running", "queued", "submits/s", "readers", "stored bytes"], rows)


def print_workflows(workflows: Iterable[WorkflowInfo], workers_of: dict[str, int]) -> None:
    """Print workflows and how many living workers run each."""
    rows: list[list[str | Text]] = []
    for workflow in workflows:
        count = workers_of.get(workflow.name, 0)
        workers = Text(str(count), style="" if count else "red")
        rows.append([workflow.name, workflow.version, workers, workflow.description.partition("\n")[0]])
    _print(["workflow", "version", "workers", "description"], rows, wraps="description")


def print_workers(workers: Iterable[WorkerInfo], now: float) -> None:
    """Print workers; `now` in seconds since the epoch."""
    rows: list[list[str | Text]] = [
        [
            worker.worker_id,
            describe_place(worker),
            f"{worker.running}/{worker.concurrency}",
            describe_age(max(0.0, now - worker.started_at)),
            ", ".join(worker.workflows),
        ]
        for worker in workers
    ]
    _print(["worker", "host:pid", "tasks", "up", "workflows"], rows, wraps="workflows")


def describe_place(worker: WorkerInfo) -> str:
    """Return where a worker runs; of the tenant `default` alone admins are told."""
    return f"{worker.host}:{worker.pid}" if worker.host else "-"


def print_limits(found: LimitsInfo) -> None:
    """Print what a tenant and its API key take, and may take."""

    def row(what: str, taken: int | None, most: float | None) -> list[str | Text]:
        is_full = taken is not None and most is not None and taken >= most
        used = Text("" if taken is None else f"{taken:,}", style="red" if is_full else "")
        return [what, used, "any number" if most is None else f"{most:,.10g}"]

    rows = [
        row("submits per second", None, found.submits_per_second),
        *(row(f"tasks that wait: {name}", count, found.max_queued) for name, count in sorted(found.queued.items())),
        row("tasks that run", found.running, found.max_running),
        row("streams that are read", found.readers, found.max_readers),
        row("bytes that are stored", found.stored_bytes, found.max_stored_bytes),
    ]
    if found.key is not None:
        rows += [
            row("this key: submits per second", None, found.key.submits_per_second),
            row("this key: streams that are read", found.key.readers, found.key.max_readers),
        ]
    _print([f"tenant {found.tenant}", "now", "at most"], rows)


def _print(titles: Sequence[str], rows: Sequence[Sequence[str | Text]], wraps: str | None = None) -> None:
    """Print a table. Nothing in it is ever cut; on a terminal the column `wraps` takes several lines if it must."""
    # As Text: a workflow's name must not be read as markup.
    cells = [[cell if isinstance(cell, Text) else Text(terminal.printable(cell)) for cell in row] for row in rows]
    if not cells:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, *column in zip(titles, *cells, strict=True):
        width = max(cell_len(str(cell)) for cell in (title, *column))
        if title == wraps:
            table.add_column(title, min_width=min(width, _NARROWEST), overflow="fold")
        else:
            table.add_column(title, min_width=width, no_wrap=True)
    for row in cells:
        table.add_row(*row)
    out = terminal.console()
    # No terminal, no width: 80 columns are a guess that a file or a pipe has no use for. And one that is too narrow for
    # whole names breaks their lines itself, where rich would cut them.
    out.width = max(out.width, sum(column.min_width or 0 for column in table.columns) + _GAP * len(titles))
    if not out.is_terminal:
        out.width = _UNBOUNDED
    out.print(table, crop=False)
