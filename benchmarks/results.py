"""The results of one run, in a JSON file. It is written again after each measurement: a broken run leaves its part.

Files can be read together only where they are of one run: figures that were not taken in one go on one machine say
nothing about each other.
"""

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class DifferentRuns(ValueError):
    """The files are not of one run; the text names the runs."""


@dataclass
class Row:
    """One system, once under one workload.

    Attributes:
        cases: figures by case.
        notes: what a reader of the figures must know.
        error: why there are no figures; None: there are.
        load: the machine's load averages and stolen seconds, before and after.
    """

    workload: str
    system: str
    repetition: int
    cases: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    load: dict[str, Any] = field(default_factory=dict)


@dataclass
class Results:
    """One run."""

    run_id: str
    started_at: str
    machine: dict[str, Any]
    is_quick: bool
    params: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def begin(cls, machine: dict[str, Any], *, is_quick: bool) -> "Results":
        """Return the empty results of a run that begins now."""
        return cls(uuid.uuid4().hex, datetime.now(UTC).isoformat(timespec="seconds"), machine, is_quick)

    def save(self, file: Path) -> None:
        """Write all to `file`, in one step."""
        draft = file.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(file)

    @classmethod
    def load(cls, file: Path) -> "Results":
        """Read a file.

        Raises:
            ValueError: it is no file of results.
        """
        try:
            raw = json.loads(file.read_text())
            return cls(**{**raw, "rows": [Row(**row) for row in raw["rows"]]})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{file} does not hold the results of a run: {error}") from None


def merge(parts: Iterable[Results]) -> Results:
    """Return the parts of one run as one.

    Raises:
        DifferentRuns: they are of several.
        ValueError: there are none.
    """
    several = list(parts)
    if not several:
        raise ValueError("no results")
    runs = {part.run_id: f"{part.run_id[:8]} of {part.started_at}" for part in several}
    if len(runs) > 1:
        raise DifferentRuns(f"not taken in one go, and not to be compared: {', '.join(sorted(runs.values()))}")
    whole = several[0]
    for part in several[1:]:
        whole.params |= part.params
        whole.rows += [row for row in part.rows if row not in whole.rows]
    return whole
