"""What the processes of a run wrote: an exception that reached a log is a defect, whatever was done to the fleet."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.checks import Violation

# A worker that was stopped or cut off for longer than its lease says so: the fault's own doing.
_EXPECTED = {"lease lost"}
_SEVERE = {"error", "critical"}


def violations(logs: Sequence[Path]) -> list[Violation]:
    """Return what the processes should not have had to say, each thing once for a process."""
    found = []
    for log in logs:
        said = dict(_broken(log.read_text(errors="replace").splitlines()))
        found += [Violation("", f"nothing breaks in {log.stem}", "no such line", line) for line in said.values()]
    return found


def _broken(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what makes a line one of its kind, and the line."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            # Nobody formatted it: a traceback of the interpreter's own, or a warning.
            yield "unformatted", line
            continue
        event = str(record.get("event"))
        if "exception" in record or (record.get("level") in _SEVERE and event not in _EXPECTED):
            yield event, line
