"""The commands, put together. A command's function lives in the module of its group and imports inside."""

import sys
from collections.abc import Sequence

import typer

from tailplane.deploy.cli import (
    checks,
    dead_letters,
    demo,
    fleet,
    keys,
    reconcile,
    schedules,
    servers,
    sessions,
    state,
    tasks,
    tenants,
    terminal,
    top,
)
from tailplane.protocol.errors import TailplaneError

app = typer.Typer(
    name="tailplane",
    help="Run workflows on scaled worker processes, and tail what they produce while they run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("dev")(servers.dev)
app.command("demo")(demo.demo)
app.command("control-plane")(servers.control_plane)
app.command("worker")(servers.worker)
app.command("run")(tasks.run)
app.command("tail")(tasks.tail)
app.command("ps")(tasks.ps)
app.command("send")(tasks.send)
app.command("cancel")(tasks.cancel)
app.add_typer(tasks.app, name="tasks")
app.add_typer(sessions.app, name="sessions")
app.command("state")(state.state)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(schedules.app, name="schedules")
app.command("workflows")(fleet.workflows)
app.command("workers")(fleet.workers)
app.command("limits")(fleet.limits)
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.command("whoami")(keys.whoami)
app.command("top")(top.top)
app.command("reconcile")(reconcile.reconcile)
app.command("doctor")(checks.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            terminal.say(version("tailplane"))
        except PackageNotFoundError:
            terminal.say("unknown: not installed as a package")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", callback=_print_version),
) -> None:
    """Hold what stands before a command."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit code: 0 for success, 1 for failure, 2 for wrong usage."""
    try:
        app(args=list(arguments), prog_name="tailplane")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away, such as `| head`: there is nobody to tell.
        sys.stderr.close()
        return 1
    except TailplaneError as error:
        terminal.report(error)
        return 1
    except Exception as error:
        terminal.report(error)
        return 1
    return 0
