"""The commands about schedules: `schedules`, and its own `list`, `create`, `show`, `pause` and so on."""

from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, Url, ask
from tailplane.deploy.cli.groups import ListByDefault
from tailplane.deploy.cli.moments import parse_duration, parse_moment
from tailplane.deploy.cli.tasks import read_input

if TYPE_CHECKING:
    from tailplane.client import Client, ScheduleInfo

app = typer.Typer(rich_markup_mode=None, cls=ListByDefault)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]


class Overlap(StrEnum):
    """What becomes of a due time while the run before has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL = "cancel"


class CatchUp(StrEnum):
    """Which of several due times that have passed are fired."""

    LATEST = "latest"
    ALL = "all"


@app.callback()
def schedules() -> None:
    """Run workflows at given times. Without a command: list the schedules."""


@app.command("list")
def list_schedules(as_json: AsJson = False, url: Url = None) -> None:
    """List the schedules by name, with their next due times."""

    async def look(client: "Client") -> "list[ScheduleInfo]":
        return [each async for each in client.schedules()]

    found = ask(url, look)
    if as_json:
        terminal.print_json({"schedules": [_plain(each) for each in found]})
        return
    from tailplane.deploy.cli.tables import print_schedules

    print_schedules(found)
    if not found:
        terminal.say("there are no schedules", stderr=True)


@app.command("create")
def create(
    name: Name,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="What it runs.")],
    data: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The input of each run, as JSON.", show_default="null")
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option(help="A file with the input as JSON; - for standard input.", allow_dash=True)
    ] = None,
    cron: Annotated[
        str | None, typer.Option(help="Minute, hour, day, month, weekday, such as '0 3 * * *'; or such as @hourly.")
    ] = None,
    every: Annotated[
        timedelta | None, typer.Option(parser=parse_duration, metavar="DURATION", help="An interval: 90s, 5m, 2h.")
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(parser=parse_moment, metavar="TIME", help="Once: 2026-12-01T09:00:00Z.")
    ] = None,
    time_zone: Annotated[str | None, typer.Option(help="Of --cron, such as Europe/Berlin.", show_default="UTC")] = None,
    overlap: Annotated[Overlap, typer.Option(help="While the run before has not ended.")] = Overlap.ALLOW,
    catch_up: Annotated[CatchUp, typer.Option(help="Of several due times that have passed.")] = CatchUp.LATEST,
    misfire_grace: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="How late it is run.", show_default="1d"),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Create a schedule, or replace the one of that name; what is the same already stays as it is."""
    from tailplane.client import Schedule

    if sum(each is not None for each in (cron, every, at)) != 1:
        raise typer.BadParameter("give one of --cron, --every and --at", param_hint="--cron")
    wanted = Schedule(
        workflow=workflow,
        input_data=read_input(data, input_file),
        cron=cron,
        every=every,
        run_at=at,
        time_zone=time_zone,
        overlap=overlap.value,
        catch_up=catch_up.value,
        misfire_grace=misfire_grace,
    )
    _tell(ask(url, lambda client: client.put_schedule(name, wanted)), as_json)


@app.command("show")
def show(name: Name, url: Url = None) -> None:
    """Print all that there is to say of a schedule, as JSON."""
    terminal.print_json(_plain(ask(url, lambda client: client.schedule(name))))


@app.command("pause")
def pause(name: Name, as_json: AsJson = False, url: Url = None) -> None:
    """Let a schedule fire nothing until it is resumed."""
    _tell(ask(url, lambda client: client.pause_schedule(name)), as_json)


@app.command("resume")
def resume(name: Name, as_json: AsJson = False, url: Url = None) -> None:
    """Let a paused schedule go on, with its first due time from now on."""
    _tell(ask(url, lambda client: client.resume_schedule(name)), as_json)


@app.command("trigger")
def trigger(name: Name, as_json: AsJson = False, url: Url = None) -> None:
    """Run now what a schedule runs; its due times stay as they are."""
    task = ask(url, lambda client: client.trigger_schedule(name))
    if as_json:
        terminal.print_json({"task_id": task.task_id, "workflow": task.workflow, "schedule": name})
    else:
        terminal.say(task.task_id)


@app.command("delete")
def delete(name: Name, url: Url = None) -> None:
    """Remove a schedule; the tasks that it has fired go on."""
    ask(url, lambda client: client.delete_schedule(name))
    terminal.say(f"{terminal.printable(name)} is deleted")


def _tell(schedule: "ScheduleInfo", as_json: bool) -> None:
    if as_json:
        terminal.print_json(_plain(schedule))
        return
    from tailplane.deploy.cli.tables import print_schedules

    print_schedules([schedule])


def _plain(schedule: "ScheduleInfo") -> dict[str, Any]:
    return schedule.model_dump(exclude_none=True)
