"""What a run has shown, as lines for a terminal and as a page of Markdown. No I/O."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.percentiles import percentile
from tests.chaos.checks import Violation
from tests.chaos.faults import Kind


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one run.

    Attributes:
        seconds: length of the time in which faults were inflicted.
        settling: seconds from the last fault until the last task had ended.
        ends: how many tasks ended in which way.
        events: all events of all streams.
        attempts: all attempts of all tasks.
        recoveries: for each task that a killed worker ran, the seconds until its next attempt began.
        unqueued: records of submits that were repeated under a new id; they expire.
    """

    seed: int
    seconds: float
    settling: float
    ends: Counter[str]
    events: int
    attempts: int
    faults: Counter[Kind]
    recoveries: Sequence[float]
    unqueued: int
    violations: Sequence[Violation] = field(default_factory=list)

    @property
    def figures(self) -> list[tuple[str, str]]:
        """What is to be shown, in order: each figure's name and value."""
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        return [
            ("seed", str(self.seed)),
            ("minutes of faults", f"{self.seconds / 60:.1f}"),
            ("tasks", f"{self.ends.total()} ({ends})"),
            ("attempts", str(self.attempts)),
            ("events", f"{self.events:,}"),
            ("faults", str(self.faults.total())),
            *((kind.value, str(count)) for kind in Kind if (count := self.faults[kind])),
            ("recovery from a killed worker", _spread(self.recoveries)),
            ("from the last fault to the last end", f"{self.settling:.1f} s"),
            ("records of repeated submits, which expire", str(self.unqueued)),
            ("violations", str(len(self.violations))),
        ]


def lines(report: Report) -> list[str]:
    """Return the report for a terminal."""
    width = max(len(name) for name, _ in report.figures)
    shown = [f"{name:{width}}  {value}" for name, value in report.figures]
    return [*shown, *(f"VIOLATION (seed {report.seed}) {violation}" for violation in report.violations)]


def markdown(report: Report) -> str:
    """Return the report as a page."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in report.figures)
    broken = "\n".join(f"* `{violation}`" for violation in report.violations) or "None."
    return f"""# Chaos

`make chaos` runs a fleet of real processes under load: one Valkey with an append-only file, two control planes, three
workers, and clients of three tenants, whose API keys the control planes demand. It kills, stops, drains, cuts off and
restarts processes, and rotates, revokes and replaces keys, by a schedule that follows from a seed. Then it checks every
task; also that no other tenant finds it, though all use the same idempotency keys. `tests/chaos/checks.py`,
`leftovers.py` and `doors.py` say what must be true.
`make chaos SEED={report.seed}` repeats this run's schedule and tasks. `make chaos KINDS=worker-killed` is of one kind
of faults alone: then recovery takes what a lease takes, while among all kinds a control plane often has to wait until
it may trust stale leases again.

| | |
| --- | --- |
{rows}

## Violations

{broken}
"""


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"{len(seconds)} tasks, p50 {percentile(seconds, 0.5):.1f} s, p99 {percentile(seconds, 0.99):.1f} s"
