"""A task's events on the terminal as they arrive: a line each with its delay, then a spinner or progress bar."""

import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from tailplane.client import EventStream
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.progress import Fraction, describe, describe_delay, progress_of
from tailplane.protocol.events import Event, Kind, PlatformType

_LINE_LIMIT = 500
_CLIENT_LOGGER = "tailplane.client"
# Events older than this when the reading began are history: what counts is when they were written.
_HISTORY = 1.0


async def arrivals(stream: EventStream) -> AsyncIterator[tuple[Event, float]]:
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
    """Prints events; between them, on a terminal, a last line that moves."""

    def __init__(self, describe_event: Callable[[Event], str] = describe) -> None:
        """Print events in the words of `describe_event`."""
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
        self._line = self._bar.add_task("waiting", total=None)
        self.began = time.time()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, event: Event, arrived: float) -> None:
        """Print an event that arrived at `arrived`, in seconds since the epoch."""
        if event.time < self.began - _HISTORY:
            when = time.strftime("%H:%M:%S", time.localtime(event.time))
        else:
            when = describe_delay(arrived - event.time)
        fraction = progress_of(event)
        self._move(event, fraction)
        if self._is_interactive and fraction is not None and fraction.is_all:
            # The bar shows it all.
            return
        content = terminal.printable(self._describe(event))
        if self._is_interactive and len(content) > _LINE_LIMIT:
            content = f"{content[:_LINE_LIMIT]} ... ({len(content) - _LINE_LIMIT:,} more)"
        line = Text.assemble((f"{event.seq:>6}  {when:>10}  ", "cyan"), content)
        if event.kind == Kind.PLATFORM:
            line.stylize("dim")
        self._console.print(line)

    def note(self, text: str) -> None:
        """Print what is no event."""
        self._console.print(Text(text, style="yellow"))

    def _move(self, event: Event, fraction: Fraction | None) -> None:
        if event.type == PlatformType.LOG:
            return
        if event.kind == Kind.PLATFORM:
            state = (event.type or "").removeprefix("task.").replace("_", " ")
            self._bar.update(self._line, description="running" if state == "started" else state)
        elif fraction is not None:
            self._bar.update(self._line, total=fraction.total, completed=fraction.done)
