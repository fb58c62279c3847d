"""The commands that run servers: `dev`, `control-plane` and `worker`."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.errors import PortInUse
from tailplane.deploy.ports import is_free
from tailplane.deploy.supervisor import HOPELESS

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from tailplane.workers import Workflow

S = TypeVar("S", bound="BaseSettings")

Target = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="module:attribute, a module, or a file: flows:summarise, flows, flows.py"),
]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Tasks that one worker runs at once.", show_default="100")]


def dev(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="What the workers run: module:attribute, a module, or a file."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The control plane's port.")] = 8420,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Where Valkey keeps its data.",
            show_default="a directory of this project's own under ~/.local/share/tailplane, or where the system has it",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    concurrency: Concurrency = None,
    reload: Annotated[bool, typer.Option(help="Start the workers anew when their source changes.")] = True,
) -> None:
    """Run everything in this terminal: Valkey, a control plane and workers. Ctrl-C stops it all."""
    from tailplane.deploy.cluster import Plan
    from tailplane.deploy.dev_session import DevSession, default_data_dir

    plan = Plan(
        target=target,
        workers=workers if target else 0,
        concurrency=concurrency,
        port=port,
        data_dir=(data_dir or default_data_dir(target, Path.cwd())).expanduser().absolute(),
    )
    DevSession(plan, reload=reload).run()


def control_plane(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.", show_default="8420")] = None,
) -> None:
    """Run one control plane.

    Its settings are TAILPLANE_* variables, above all TAILPLANE_REDIS_URL; docs/configuration.md has them all, and
    `python -m tailplane.deploy.configuration` prints them where `tailplane[all]` is installed.
    """
    from tailplane.control_plane import Settings, serve

    settings = read_settings(Settings, host=host, port=port)
    if settings.port and not is_free(settings.port, settings.host):
        raise PortInUse(settings.port)
    serve(settings)


def worker(
    target: Target,
    processes: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    concurrency: Concurrency = None,
) -> None:
    """Run workflows.

    The settings are TAILPLANE_* variables, above all TAILPLANE_REDIS_URL; docs/configuration.md has them all, and
    `python -m tailplane.deploy.configuration` prints them where `tailplane[all]` is installed.
    """
    from tailplane.workers import Settings, run_worker

    settings = read_settings(Settings, concurrency=concurrency)
    if processes == 1:
        run_worker(_load(target), settings)
        return
    from tailplane.broker.listener import demanded_token
    from tailplane.deploy.worker_pool import run_workers

    if (first := settings.metrics_port) is not None:
        # Said once here, not by each process again and again.
        demanded_token(settings.metrics_host, settings.metrics_token)
        for port in range(first, first + processes):
            if not is_free(port, settings.metrics_host):
                raise PortInUse(port, "TAILPLANE_METRICS_PORT")
    raise typer.Exit(
        run_workers(
            target,
            processes,
            concurrency=concurrency,
            metrics_port=first,
            # The drain itself, then the unwinding of what was cancelled and handed back.
            grace=settings.drain_grace.total_seconds() + 10,
            say=lambda name, what: terminal.say(f"{name} {what}", stderr=True),
        )
    )


def read_settings(kind: type[S], **given: object) -> S:
    """Return a program's settings: from the environment, under what the command line says."""
    from pydantic import ValidationError

    try:
        return kind(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in item["loc"]).upper()
            terminal.say(f"error: TAILPLANE_{name}: {item['msg'].removeprefix('Value error, ')}", stderr=True)
        raise typer.Exit(2) from None


def _load(target: str) -> "list[Workflow]":
    from tailplane.protocol.errors import TailplaneError
    from tailplane.workers import load_target

    try:
        return load_target(target)
    except TailplaneError as error:
        terminal.report(error)
        raise typer.Exit(HOPELESS) from None
    except Exception as error:
        # Not ours but the author's: what helps is where in his own code it happened.
        terminal.say(f"error: {target} can't be imported\n{_own_traceback(error)}", stderr=True)
        raise typer.Exit(HOPELESS) from None


def _own_traceback(error: Exception) -> str:
    """Return the traceback from the first frame on that is neither ours nor the import system's."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def _is_machinery(module: str) -> bool:
    return module.startswith(("importlib", "_frozen_importlib", "tailplane.deploy.cli", "tailplane.workers"))
