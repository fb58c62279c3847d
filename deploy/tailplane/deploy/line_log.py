"""The lines of several processes in one terminal, each after the name of the one that wrote it."""

import os
import threading
from collections.abc import Sequence
from typing import IO

from tailplane.deploy.masking import mask

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_OURS = "tailplane"


class LineLog:
    """A sink of lines (see `child.Sink`) that prints `name | line`; safe to call from any thread."""

    def __init__(self, names: Sequence[str], stream: IO[str]) -> None:
        """Print to `stream`; `names` are those to expect, for the width and the colours."""
        self._stream = stream
        self._width = max(len(name) for name in (*names, _OURS))
        has_colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)} | {_OURS: 1}
        self._colours = colours if has_colour else {}
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        """Print a line that `name` wrote."""
        self._print(name, "|", line)

    def note(self, name: str, text: str) -> None:
        """Print what happened to `name`, told apart from what it wrote itself."""
        self._print(name, ">", text)

    def _print(self, name: str, mark: str, line: str) -> None:
        head = f"{name:<{self._width}} {mark}"
        if colour := self._colours.get(name):
            head = f"\x1b[{colour}m{head}\x1b[0m"
        with self._lock:
            self._stream.write(f"{head} {mask(line)}\n")
            self._stream.flush()
