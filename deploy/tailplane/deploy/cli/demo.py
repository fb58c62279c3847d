"""The command `demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.progress import describe_count

if TYPE_CHECKING:
    from tailplane.deploy.demo.documents import Documents

# What the whole demo should last at least, and the longest rest that still looks alive, in milliseconds.
_SHOW_MS = 8000
_LONGEST_PAUSE_MS = 250


def demo(
    path_to: Annotated[
        Path | None, typer.Argument(metavar="[PATH_TO]", help="A folder with text files, or one.", show_default="here")
    ] = None,
    pause: Annotated[
        float | None,
        typer.Option(min=0, help="Rest after each file, in ms.", show_default="so that it lasts some seconds"),
    ] = None,
    max_files: Annotated[int, typer.Option(min=1, help="Leave out files beyond this number.")] = 300,
) -> None:
    """Analyse the text files of a folder on a cluster of its own, and show its events as they arrive."""
    from tailplane.deploy.demo.events import Job
    from tailplane.deploy.interrupts import Interrupts

    folder, documents = _documents(path_to, max_files)
    pause_ms = min(_LONGEST_PAUSE_MS, _SHOW_MS / len(documents.paths)) if pause is None else pause
    terminal.say(f"analysing {describe_count(len(documents.paths), 'text file')} in {folder}")
    if pause_ms:
        terminal.say(f"with a rest of {pause_ms:.0f} ms after each, so that you can watch (--pause 0: none)")
    from tailplane.deploy.cli.demo_view import run_demo

    with Interrupts():
        try:
            run_demo(Job(folder=str(folder), pause_ms=pause_ms, max_files=max_files))
        except KeyboardInterrupt:
            terminal.say("stopped", stderr=True)
            raise typer.Exit(130) from None


def _documents(path_to: Path | None, max_files: int) -> "tuple[Path, Documents]":
    from tailplane.deploy.demo.documents import NoDocuments, find_documents

    folder = (path_to or Path()).expanduser().resolve()
    try:
        return folder, find_documents(folder, max_files)
    except NoDocuments as error:
        if path_to is not None:
            raise
        # Somebody tries it out in an empty folder: our own sources are text as well.
        own = Path(__file__).resolve().parents[2]
        terminal.say(f"{error}; taking Tailplane's own sources instead", stderr=True)
        return own, find_documents(own, max_files)
