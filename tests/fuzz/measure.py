"""Throws inputs at a target and watches: what it raises, how long it takes, how much memory it takes meanwhile."""

import time
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.fuzz.mutator import Mutator

# Seconds for one input, on a machine that is busy with other things; the slowest takes a hundredth of this.
LONGEST = 5.0
# What one input may take: some for itself, and so many bytes for each of its own.
BASE_BYTES = 4 * 1024 * 1024
BYTES_PER_BYTE = 400
# msgpack makes room for up to 10,000 items of an array that is announced, on each of at most 1,024 levels; it is given
# back when the items do not come.
_ANNOUNCING, _ROOM_BYTES, _LEVELS = b"\xdc\xdd\xde\xdf", 80 * 1024 + 512, 1024
_MOST_FINDINGS = 20


class Target(Protocol):
    """Something that reads what others send."""

    name: str

    def make(self, mutator: Mutator) -> bytes:
        """Return an input."""

    def take(self, data: bytes, mutator: Mutator) -> bool:
        """Read it; return whether it was taken for good. What it may raise, it catches; all else is a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that broke a promise."""

    target: str
    data: bytes
    what: str


@dataclass(slots=True)
class Outcome:
    """What came out of one target.

    Attributes:
        taken: how many inputs were taken for good; the others were refused with a typed error.
        slowest: seconds that the slowest input took.
        peak_bytes: the most memory that one input took.
    """

    target: str
    inputs: int = 0
    taken: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    peak_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def note(self, data: bytes, what: str) -> None:
        """Note a finding, unless there are many."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(Finding(self.target, data, what))


def run(target: Target, inputs: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Throw so many inputs at a target, those of this seed."""
    mutator, outcome = Mutator(seed), Outcome(target.name)
    began = time.perf_counter()
    tracemalloc.start(1)
    try:
        for _ in range(inputs):
            _try(target, target.make(mutator), mutator, outcome)
    finally:
        tracemalloc.stop()
    outcome.seconds = time.perf_counter() - began
    say(f"{target.name}: {outcome.inputs:,} inputs, {outcome.taken:,} taken, {len(outcome.findings)} findings")
    return outcome


def _try(target: Target, data: bytes, mutator: Mutator, outcome: Outcome) -> None:
    outcome.inputs += 1
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    began = time.perf_counter()
    try:
        outcome.taken += target.take(data, mutator)
    except Exception:
        outcome.note(data, traceback.format_exc(limit=-4))
    took = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    outcome.slowest = max(outcome.slowest, took)
    outcome.peak_bytes = max(outcome.peak_bytes, peak - before)
    if took > LONGEST:
        outcome.note(data, f"took {took:.1f} s")
    if peak - before > _most_bytes(data):
        outcome.note(data, f"took {peak - before:,} bytes for {len(data):,}")


def _most_bytes(data: bytes) -> int:
    announcing = len(data) - len(data.translate(None, _ANNOUNCING))
    return BASE_BYTES + BYTES_PER_BYTE * len(data) + _ROOM_BYTES * min(announcing, _LEVELS)
