"""The commands about tasks that failed: `dead-letters`, and its own `list`, `requeue` and `drop`."""

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, AsJsonLines, Url, ask
from tailplane.deploy.cli.groups import ListByDefault
from tailplane.protocol.errors import DeadLetterNotFound, RequestError, TaskGone

if TYPE_CHECKING:
    from tailplane.client import Client, DeadLetter


app = typer.Typer(rich_markup_mode=None, cls=ListByDefault)

_IDS_HELP = "The failed tasks' ids."
_Workflow = Annotated[str | None, typer.Option(help="Only runs of this workflow.")]


@app.callback()
def dead_letters() -> None:
    """Look at the tasks that failed, run them again or drop them. Without a command: list them."""


@app.command("list")
def list_letters(
    workflow: _Workflow = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List the tasks that failed and were neither requeued nor dropped since, newest first."""

    async def look(client: "Client") -> "list[DeadLetter]":
        found: list[DeadLetter] = []
        async for letter in client.dead_letters(workflow=workflow):
            found.append(letter)
            if len(found) > limit:
                break
        return found

    found = ask(url, look)
    letters, has_more = found[:limit], len(found) > limit
    if as_json:
        plain = [letter.model_dump(exclude_none=True) for letter in letters]
        terminal.print_json({"dead_letters": plain, "has_more": has_more})
        return
    from tailplane.deploy.cli.tables import print_dead_letters

    print_dead_letters(letters, time.time())
    if has_more:
        terminal.say(f"there are more: list --limit {limit * 2} shows twice as many", stderr=True)
    elif not letters:
        terminal.say("there are no dead letters", stderr=True)


@app.command("requeue")
def requeue(
    task_ids: Annotated[list[str] | None, typer.Argument(metavar="[TASK_ID]...", help=_IDS_HELP)] = None,
    every: Annotated[bool, typer.Option("--all", help="All there are, or all of --workflow.")] = False,
    workflow: _Workflow = None,
    as_json: AsJsonLines = False,
    url: Url = None,
) -> None:
    """Run failed tasks again, each as a new task with the same input. The exit code is 1 if one of them can't be."""
    if every == bool(task_ids):
        raise typer.BadParameter("give ids of tasks, or --all", param_hint="TASK_ID")
    if workflow and not every:
        raise typer.BadParameter("it goes with --all", param_hint="--workflow")

    async def run_again(client: "Client") -> tuple[int, int]:
        count = refused = 0
        async for task_id in _wanted(client, task_ids, workflow):
            try:
                task = await client.requeue(task_id)
            except RequestError as error:
                # Of all, somebody else may have dropped one meanwhile; one that was asked for by its id is told.
                if not (every and isinstance(error, DeadLetterNotFound | TaskGone)):
                    refused += 1
                    _report(task_id, error)
                continue
            count += 1
            if as_json:
                terminal.print_json({"task_id": task.task_id, "requeue_of": task_id})
            else:
                terminal.say(f"{task_id} is requeued as {task.task_id}")
        return count, refused

    count, refused = ask(url, run_again)
    if not count and not refused and not as_json:
        terminal.say("there are no dead letters", stderr=True)
    raise typer.Exit(1 if refused else 0)


@app.command("drop")
def drop(
    task_ids: Annotated[list[str], typer.Argument(metavar="TASK_ID...", help=_IDS_HELP)],
    url: Url = None,
) -> None:
    """Take failed tasks off the list for good. The exit code is 1 if one of them can't be."""

    async def take_off(client: "Client") -> int:
        refused = 0
        for task_id in task_ids:
            try:
                await client.drop_dead_letter(task_id)
            except RequestError as error:
                refused += 1
                _report(task_id, error)
            else:
                terminal.say(f"{task_id} is dropped")
        return refused

    raise typer.Exit(1 if ask(url, take_off) else 0)


def _report(task_id: str, error: RequestError) -> None:
    """Say why nothing becomes of one task: that is no reason to leave out the others."""
    if task_id not in str(error):
        terminal.say(f"error: {task_id} stays a dead letter", stderr=True)
    terminal.report(error)


async def _wanted(client: "Client", task_ids: list[str] | None, workflow: str | None) -> AsyncIterator[str]:
    for task_id in task_ids or []:
        yield task_id
    if not task_ids:
        async for letter in client.dead_letters(workflow=workflow):
            yield letter.task_id
