"""The commands about sessions: `sessions open` and `sessions close`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, Url, ask

if TYPE_CHECKING:
    from tailplane.client import Client

app = typer.Typer(
    help="Open and close sessions, whose tasks share a stream and a state.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("open")
def open_session(
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label; may be given again.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Open a session and print its id. Nothing closes it by itself; it is gone a day after its last task came."""
    metadata = dict(map(_parse_label, labels or ()))

    async def open_one(client: "Client") -> str:
        return (await client.open_session(metadata)).session_id

    session_id = ask(url, open_one)
    if as_json:
        terminal.print_json({"session_id": session_id})
        return
    terminal.say(session_id)
    terminal.say(
        f"tailplane run WORKFLOW --session {session_id}  adds a task to it\n"
        f"tailplane tail --session {session_id}  shows what its tasks say",
        stderr=True,
    )


@app.command("close")
def close_session(
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID", help="The session's id.")],
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel its tasks that have not ended.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Close a session: it takes no more tasks. Those it has run on, unless they are cancelled."""
    closed = ask(url, lambda client: client.close_session(session_id, cancel=cancel))
    if as_json:
        terminal.print_json(closed.model_dump(exclude_unset=True))
    else:
        terminal.say(f"{closed.session_id} is closed", stderr=True)


def _parse_label(said: str) -> tuple[str, str]:
    name, is_one, value = said.partition("=")
    if not name or not is_one:
        raise typer.BadParameter(f"{said!r} is no NAME=VALUE", param_hint="--label")
    return name, value
