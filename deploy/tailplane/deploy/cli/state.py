"""The command about what the tasks of a session share: `state`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, Url, ask

if TYPE_CHECKING:
    from tailplane.client import Client, Versioned


def state(
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID", help="The session's id.")],
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this value.", show_default=False)] = None,
    value: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="What it is to be, as JSON.", show_default=False)
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=0, help="Set it only if it has this version; 0: if it is not there.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show what the tasks of a session share, or set a value of it."""
    wanted = None if value is None else _parse(value)

    async def look(client: "Client") -> "dict[str, Versioned]":
        from tailplane.client import Versioned

        shared = (await client.session(session_id)).state
        if key is None:
            return await shared.all()
        if value is None:
            return {key: await shared.get(key)}
        return {key: Versioned(wanted, await shared.set(key, wanted, version=version))}

    found = ask(url, look)
    if as_json:
        shown = {name: {"value": each.value, "version": each.version} for name, each in found.items()}
        terminal.print_json({"state": shown})
        return
    from tailplane.deploy.cli.progress import describe_data

    for name, each in found.items():
        said = json.dumps(each.value) if isinstance(each.value, str) else describe_data(each.value)
        terminal.say(terminal.printable(f"{name}  {said}  (version {each.version})"))
    if not found:
        terminal.say("its tasks share nothing", stderr=True)


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        hint = """ (a text needs quotes of its own: '"like this"')"""
        raise typer.BadParameter(f"this is not JSON: {error}{hint}", param_hint="JSON") from None
