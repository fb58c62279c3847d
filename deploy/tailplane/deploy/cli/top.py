"""The command `top`: how a deployment stands, again and again, until Ctrl-C."""

import asyncio
import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, Url, ask

if TYPE_CHECKING:
    from tailplane.client import Client
    from tailplane.deploy.cli.overview import Overview


def top(
    interval: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, as plain text.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Watch queues, workers and tasks. Where nobody looks (no terminal), it looks once, as with --once."""
    from tailplane.deploy.cli import overview

    if as_json:
        terminal.print_json(ask(url, overview.look).as_dict())
    elif once or not terminal.is_interactive(sys.stdout):
        # No terminal, no width: nothing is to be cut.
        console = terminal.console()
        if not console.is_terminal:
            console.width = 1000
        console.print(overview.picture(ask(url, overview.look)))
    else:
        ask(url, lambda client: _watch(client, interval))


async def _watch(client: "Client", interval: float) -> None:
    """Show a frame after the other on a screen of their own, which the terminal gives up at the end, however it comes.

    Raises: as `look`, the first time; afterwards the last frame stays, and says since when.
    """
    from rich.live import Live

    from tailplane.deploy.cli.overview import look, picture
    from tailplane.protocol.errors import TailplaneError

    seen = await look(client)
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    assert me is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, me.cancel)
    with (
        contextlib.suppress(asyncio.CancelledError),
        Live(picture(seen), console=terminal.console(), screen=True, auto_refresh=False) as live,
    ):
        live.refresh()
        while True:
            await asyncio.sleep(interval)
            note = ""
            try:
                seen = await look(client)
            except TailplaneError as error:
                note = _stale(seen, error)
            live.update(picture(seen, note), refresh=True)


def _stale(seen: "Overview", error: Exception) -> str:
    return f"as it was {time.time() - seen.at:.0f} s ago; no answer since: {error}"
