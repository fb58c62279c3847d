"""The end of a log file, for error messages."""

import os
from pathlib import Path

TAIL_LINES = 20
_TAIL_BYTES = 65536


def log_tail(path: Path) -> str:
    """Return a log's last lines; empty if there is no such file."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""
