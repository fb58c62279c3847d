"""The commands about tasks: `run`, `tail`, `ps`, `send`, `cancel` and `tasks show`."""

import json
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, AsJsonLines, Url, ask
from tailplane.deploy.cli.moments import parse_duration, parse_moment
from tailplane.protocol.errors import RequestError
from tailplane.protocol.priorities import Priority
from tailplane.protocol.states import State

if TYPE_CHECKING:
    from tailplane.client import Client, StepInfo, TaskStatus

app = typer.Typer(help="Look at one task.", no_args_is_help=True, rich_markup_mode=None)

TaskId = Annotated[str, typer.Argument(metavar="TASK_ID", help="The task's id, such as t_01jd3z0v9m6s8k2x4q7w5e1r0t.")]

# What a wait for any message is called.
_ANY = "any"

DETACHED = 130
"""The exit code after Ctrl-C while following: 128 and the number of SIGINT, as shells have it."""


def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workflow.")],
    data: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="Its input, as JSON.", show_default="null")
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option(help="A file with the input as JSON; - for standard input.", allow_dash=True)
    ] = None,
    session_id: Annotated[
        str | None, typer.Option("--session", metavar="SESSION_ID", help="Run it in this session, with its state.")
    ] = None,
    priority: Annotated[Priority | None, typer.Option(help="Which tasks are claimed first.")] = None,
    concurrency_key: Annotated[
        str | None, typer.Option(help="Of the tasks with this key only so many run at once.")
    ] = None,
    concurrency_limit: Annotated[int, typer.Option(min=1, help="So many.")] = 1,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what it produces, and wait for its end.")
    ] = False,
    delay: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Start it so much later: 90s, 5m, 2h."),
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(parser=parse_moment, metavar="TIME", help="Start it then: 2026-12-01T09:00:00Z.")
    ] = None,
    as_json: AsJsonLines = False,
    url: Url = None,
) -> None:
    """Start a run of a workflow. With --follow the exit code is 0 if it succeeds, else 1."""
    from tailplane.deploy.cli.following import follow as follow_task
    from tailplane.deploy.cli.waiting import before_it

    if delay is not None and at is not None:
        raise typer.BadParameter("give a delay or a time, not both", param_hint="--at")
    value = read_input(data, input_file)
    started: list[str] = []

    async def start(client: "Client") -> int:
        whose = client if session_id is None else await client.session(session_id)
        task = await whose.run_workflow(
            name,
            value,
            delay=delay,
            run_at=at,
            priority=priority,
            concurrency_key=concurrency_key,
            concurrency_limit=concurrency_limit,
        )
        started.append(task.task_id)
        if follow:
            return await follow_task(client, task, "start", as_json)
        if as_json:
            terminal.print_json({"task_id": task.task_id, "workflow": name, "position": task.position})
        else:
            terminal.say(task.task_id)
            if task.position:
                terminal.say(before_it(task.position), stderr=True)
            terminal.say(f"see what it says: tailplane tail {task.task_id}", stderr=True)
        return 0

    try:
        code = ask(url, start)
    except KeyboardInterrupt:
        raise _detached(started) from None
    raise typer.Exit(code)


def tail(
    task_id: Annotated[str | None, typer.Argument(metavar="TASK_ID", help="The task's id.", show_default=False)] = None,
    session_id: Annotated[
        str | None,
        typer.Option("--session", metavar="SESSION_ID", help="All tasks of this session, those that join it, too."),
    ] = None,
    start: Annotated[
        str,
        typer.Option("--from", help="The seq of the last event seen, start, now, or -N for the last N."),
    ] = "start",
    as_json: AsJsonLines = False,
    url: Url = None,
) -> None:
    """Show what a task has said and goes on saying, to its end. The exit code is 0 if it succeeds, else 1.

    With --session it shows what all tasks of a session say, until that is closed and they have ended; --from is start,
    now, or a cursor of the session's stream.
    """
    from tailplane.deploy.cli.following import follow, follow_session

    if (task_id is None) == (session_id is None):
        raise typer.BadParameter("name a task or a session, one of the two", param_hint="TASK_ID or --session")

    async def look(client: "Client") -> int:
        if session_id is not None:
            return await follow_session(await client.session(session_id), start, as_json)
        task = client.task(task_id or "")
        # A stream is asked for with the patience of an application; whether there is such a task is answered at once.
        await task.status()
        return await follow(client, task, start, as_json)

    try:
        code = ask(url, look)
    except KeyboardInterrupt:
        if session_id is not None:
            terminal.say("\ndetached; the session's tasks run on", stderr=True)
            raise typer.Exit(DETACHED) from None
        raise _detached([task_id or ""]) from None
    raise typer.Exit(code)


def ps(
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only runs of this workflow.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Only what this schedule fired.")] = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Also tasks that have ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List tasks, newest first: those that have not ended, unless --all or --state says otherwise."""
    wanted = [state] if state else [None] if show_all else [each for each in State if not each.is_terminal]

    async def look(client: "Client") -> "tuple[list[TaskStatus], bool]":
        found: list[TaskStatus] = []
        for each in wanted:
            pages = client.tasks(state=each, workflow=workflow, schedule=schedule)
            taken = 0
            async for task in pages:
                found.append(task)
                taken += 1
                if taken > limit:
                    break
        found.sort(key=lambda task: task.created_at, reverse=True)
        return found[:limit], len(found) > limit

    tasks, has_more = ask(url, look)
    if as_json:
        terminal.print_json({"tasks": [_plain(task) for task in tasks], "has_more": has_more})
        return
    from tailplane.deploy.cli.tables import print_tasks

    print_tasks(tasks, time.time())
    if has_more:
        terminal.say(f"there are more: --limit {limit * 2} shows twice as many", stderr=True)
    elif not tasks and not show_all and not state:
        terminal.say("no task waits or runs; --all shows those that have ended", stderr=True)


def cancel(
    task_id: TaskId,
    reason: Annotated[str | None, typer.Option(help="Why; readers of the task are told.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Cancel a task. The exit code is 0 if it ends cancelled, 1 if it had ended otherwise before."""
    task = ask(url, lambda client: client.task(task_id).cancel(reason))
    if as_json:
        terminal.print_json(_plain(task))
    elif task.state == State.CANCELLED:
        terminal.say(f"{task_id} is cancelled")
    else:
        terminal.say(f"{task_id} was not cancelled: it had {task.state} before", stderr=True)
    raise typer.Exit(0 if task.state == State.CANCELLED else 1)


def send(
    task_id: TaskId,
    data: Annotated[str, typer.Argument(metavar="JSON", help="What the workflow gets, as JSON.")] = "null",
    type_: Annotated[
        str | None,
        typer.Option("--type", "-t", help="What it is called: the name, or the model's, that the workflow waits for."),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Sent again with the same key, it is the same message.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Send a message to a task that waits for one, or will."""
    value = _parse(data, "JSON")

    async def deliver(client: "Client") -> "tuple[int, list[StepInfo]]":
        task = client.task(task_id)
        number = await task.send_event(value, type=type_, idempotency_key=key)
        return number, [] if as_json else await task.steps()

    number, steps = ask(url, deliver)
    if as_json:
        terminal.print_json({"task_id": task_id, "number": number})
        return
    terminal.say(f"message {number} is in the inbox of {task_id}")
    awaited = [step.name for step in steps if step.kind == "wait" and step.ended_at is None]
    if awaited and type_ not in awaited and _ANY not in awaited:
        names = " or ".join(sorted(set(awaited)))
        what = f"is {type_!r}" if type_ else "has no type"
        terminal.say(f"nothing takes it yet: the task waits for {names}, and this {what} (--type)", stderr=True)


@app.command("show")
def show(task_id: TaskId, as_json: AsJson = False, url: Url = None) -> None:
    """Show how a task stands, its steps with their times, and what it failed with."""

    async def look(client: "Client") -> "tuple[TaskStatus, list[StepInfo]]":
        task = client.task(task_id)
        return await task.status(), await task.steps()

    task, steps = ask(url, look)
    if as_json:
        plain = [step.model_dump(exclude_none=True) for step in steps]
        terminal.print_json({**_plain(task), "steps": plain})
        return
    from tailplane.deploy.cli.tables import print_steps, print_tasks

    print_tasks([task], time.time())
    print_steps(steps, task.ended_at or time.time())
    if task.error is not None:
        terminal.say(terminal.printable(f"{task.error.code}: {task.error.message}"))


def _plain(task: "TaskStatus") -> dict[str, Any]:
    return task.model_dump(exclude_none=True)


def _detached(task_ids: list[str]) -> typer.Exit:
    for task_id in task_ids:
        terminal.say(f"\ndetached; the task runs on. Follow it again: tailplane tail {task_id}", stderr=True)
        terminal.say(f"end it:                                  tailplane cancel {task_id}", stderr=True)
    return typer.Exit(DETACHED)


def read_input(data: str | None, input_file: Path | None) -> Any:
    """Return a workflow's input, given as JSON, as a file with it, or not at all."""
    if data is not None and input_file is not None:
        raise typer.BadParameter("give the input as JSON or as a file, not both", param_hint="--input-file")
    if data is None and input_file is None:
        return None
    if input_file is None:
        return _parse(data or "", "JSON")
    try:
        text = sys.stdin.read() if str(input_file) == "-" else input_file.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{input_file} can't be read: {error.strerror}", param_hint="--input-file") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{input_file} is not UTF-8 text", param_hint="--input-file") from None
    return _parse(text, "--input-file")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        hint = """ (a text needs quotes of its own: '"like this"')""" if where == "JSON" else ""
        raise typer.BadParameter(f"this is not JSON: {error}{hint}", param_hint=where) from None
    except RecursionError:
        raise RequestError("the input is nested too deeply") from None
