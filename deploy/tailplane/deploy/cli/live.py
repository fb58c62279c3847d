"""A task's events on the terminal as they arrive: a line each with its delay, then a spinner or progress bar."""

import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from tailplane.client.rewinds import Rewind
from tailplane.client.stream import Stream
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.progress import Fraction, describe, describe_delay, progress_of
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.events import Event, Kind, PlatformType

T = TypeVar("T")

_LINE_LIMIT = 500
# Tasks of a session that have a moving line at once: more would push what is printed out of sight.
_MOST_LINES = 10
_CLIENT_LOGGER = "tailplane.client"
# Events older than this when the reading began are history: what counts is when they were written.
_HISTORY = 1.0


async def arrivals(stream: Stream[T]) -> AsyncIterator[tuple[T, float]]:
    """Yield a stream's events, each with its time of arrival in seconds since the epoch.

    Events that arrived together have the same time: printing one of them does not count as a delay of the next.
    """
    while True:
        try:
            events = await stream.take()
        except StopAsyncIteration:
            return
        arrived = time.time()
        for event in events:
            yield event, arrived


class LossNotice(logging.Handler):
    """Tells the person who watches that the connection is lost, once per loss: else it would look like a hang.

    The client itself only logs that it takes its stream up again.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._say = say
        self._is_told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of what the client logs."""
        if record.module == "reader" and not self._is_told:
            self._is_told = True
            self._say("the connection is lost; trying to take it up again (Ctrl-C to detach)")

    def mended(self) -> None:
        """Take note that something arrived."""
        self._is_told = False

    def __enter__(self) -> Self:
        logger = logging.getLogger(_CLIENT_LOGGER)
        logger.addHandler(self)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(_CLIENT_LOGGER).removeHandler(self)


class LiveView:
    """Prints events; below them, on a terminal, a line that moves, or one for each task of a session."""

    def __init__(self, describe_event: Callable[[Event], str] = describe, *, has_labels: bool = False) -> None:
        """Print events in the words of `describe_event`; with labels, of several tasks."""
        self._describe = describe_event
        self._is_interactive = terminal.is_interactive(sys.stdout)
        self._console: Console = terminal.console()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._is_interactive,
        )
        # By the label of the task; one task alone has none.
        self._lines: dict[str, TaskID] = {}
        # By the same, the seq of what it shows.
        self._told: dict[str, Cursor] = {}
        if not has_labels:
            self._line_of("")
        self.began = time.time()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, event: Event, arrived: float, label: str = "") -> None:
        """Print an event that arrived at `arrived`, in seconds since the epoch.

        Args:
            label: which task it is of, where there are several.
        """
        if event.time < self.began - _HISTORY:
            when = time.strftime("%H:%M:%S", time.localtime(event.time))
        else:
            when = describe_delay(arrived - event.time)
        fraction = progress_of(event)
        self._move(event, fraction, label)
        if self._is_interactive and fraction is not None and fraction.is_all:
            # The bar shows it all.
            return
        content = terminal.printable(self._describe(event))
        if self._is_interactive and len(content) > _LINE_LIMIT:
            content = f"{content[:_LINE_LIMIT]} ... ({len(content) - _LINE_LIMIT:,} more)"
        line = Text.assemble(
            (f"{event.seq:>6}  {when:>10}  ", "cyan"), (f"{label}  " if label else "", "green"), content
        )
        if event.kind == Kind.PLATFORM:
            line.stylize("dim")
        self._console.print(line)

    def note(self, text: str) -> None:
        """Print what is no event."""
        self._console.print(Text(text, style="yellow"))

    def _move(self, event: Event, fraction: Fraction | None, label: str) -> None:
        if event.type == PlatformType.LOG:
            return
        said = None
        if fraction is not None:
            said = fraction.text
        elif event.kind == Kind.PLATFORM:
            state = (event.type or "").removeprefix("task.").replace("_", " ")
            said = "running" if state == "started" else state
        if label and (event.is_terminal or event.type == PlatformType.GONE):
            self._remove(label)
            return
        rewind = Rewind.of(event)
        if rewind is not None and rewind.supersedes(*[self._told.get(label, event.seq)] * 2):
            # What was done is done anew.
            self._remove(label)
        line = self._line_of(label)
        if line is None:
            return
        # A text may have what a terminal would obey.
        description = None if said is None else terminal.printable(f"{label}  {said}" if label else said)
        if fraction is not None:
            self._told[label] = event.seq
            self._bar.update(line, total=fraction.total, completed=fraction.done, description=description)
        elif description is not None:
            self._bar.update(line, description=description)

    def _line_of(self, label: str) -> TaskID | None:
        """Return the moving line of a task; None: there are enough."""
        if label not in self._lines and len(self._lines) < _MOST_LINES:
            self._lines[label] = self._bar.add_task(label or "waiting", total=None)
        return self._lines.get(label)

    def _remove(self, label: str) -> None:
        self._told.pop(label, None)
        if (line := self._lines.pop(label, None)) is not None:
            self._bar.remove_task(line)
