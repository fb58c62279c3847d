"""What reaches the terminal: errors with their hint on stderr, JSON on stdout, text without what a terminal would obey.

Everything printed passes `mask`: no password of a URL and no API key gets out, but for the one that `tell` tells.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from tailplane.deploy.masking import mask

if TYPE_CHECKING:
    from rich.console import Console

# C0 without tab and newline, DEL and C1: an event's text could else move the cursor or rename the window.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return `text` with control characters as escapes and without secrets."""
    return mask(_CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text))


def is_interactive(stream: IO[str]) -> bool:
    """Whether a person looks at it: colours, spinners and bars make sense."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stderr: bool = False) -> "Console":
    """Return a rich console that adds no colours of its own to numbers and names."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str, *, stderr: bool = False) -> None:
    """Print a line of plain text."""
    stream = sys.stderr if stderr else sys.stdout
    stream.write(f"{mask(text)}\n")
    stream.flush()


def print_json(value: object) -> None:
    """Print a value as one line of JSON, at once."""
    from tailplane.protocol import json_codec

    sys.stdout.write(mask(json_codec.to_json(value).decode()) + "\n")
    sys.stdout.flush()


def tell(secret: str) -> None:
    """Print a secret, once: it is what was asked for."""
    sys.stdout.write(f"{secret}\n")
    sys.stdout.flush()


def _particulars(errors: object) -> Iterator[str]:
    """Yield what is wrong with an input, and where, if there is more than the message says."""
    if not isinstance(errors, list) or len(errors) < 2:
        return
    for item in errors:
        if isinstance(item, dict):
            yield f"{'.'.join(map(str, item.get('loc', ()))) or 'input'}: {item.get('msg', '')}"


def report(error: BaseException) -> None:
    """Print an error as one clear message, with its hint; never a traceback, except on TAILPLANE_DEBUG."""
    if os.environ.get("TAILPLANE_DEBUG"):
        sys.stderr.write(mask("".join(traceback.format_exception(error))))
        return
    from tailplane.protocol.errors import TailplaneError

    if isinstance(error, TailplaneError):
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.stderr.write("".join(f"       {printable(line)}\n" for line in _particulars(error.facts.get("errors"))))
        if error.hint:
            sys.stderr.write(f"hint:  {printable(error.hint)}\n")
        return
    sys.stderr.write(f"error: {type(error).__name__}: {printable(str(error))}\n")
    sys.stderr.write("hint:  this was not foreseen; TAILPLANE_DEBUG=1 shows where it happened\n")
