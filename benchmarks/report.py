"""Turns the results of one run into Markdown: medians with their spread, and ratios of Tailplane to the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import workloads
from benchmarks.percentiles import median
from benchmarks.results import Results

OURS = "tailplane"

# The figures that tables show, with the direction that is better; the JSON has more.
SMALLER_IS_BETTER = (
    "p50_ms",
    "p99_ms",
    "steady_p50_ms",
    "steady_p99_ms",
    "cpu_us_per_event",
    "steady_cpu_us_per_event",
    "cpu_ms_per_task",
    "redis_bytes_per_event",
    "peak_mb_control_plane",
    "peak_mb_worker",
    "kb_per_reader",
    "idle_cpu_share",
    "busy_p99_ratio",
)
LARGER_IS_BETTER = ("events_per_s", "tasks_per_s", "deliveries_per_s")
PLAIN = ("lost", "missing", "failed", "doubled", "rate_per_task")


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of one figure over the repetitions, with the smallest and the largest."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return shown(self.middle)
        return f"{shown(self.middle)} ({shown(self.least)}-{shown(self.most)})"


def ratio(name: str, ours: float, theirs: float) -> float | None:
    """Return how many times better ours is: 2 for half the latency or twice the throughput; None: can't be said."""
    if name in SMALLER_IS_BETTER and ours > 0:
        return theirs / ours
    if name in LARGER_IS_BETTER and theirs > 0:
        return ours / theirs
    return None


def shown(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def figures_of(results: Results) -> dict[tuple[str, str, str], dict[str, Figure]]:
    """Return the figures by (workload, case, name) and system."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in results.rows:
        for case, figures in row.cases.items():
            for name, value in figures.items():
                values.setdefault((row.workload, case, name), {}).setdefault(row.system, []).append(value)
    return {
        key: {system: Figure(median(taken), min(taken), max(taken)) for system, taken in by_system.items()}
        for key, by_system in values.items()
    }


def markdown(results: Results) -> str:
    """Return the whole report."""
    systems = list(dict.fromkeys(row.system for row in results.rows))
    figures = figures_of(results)
    parts = [_head(results)]
    for workload in dict.fromkeys(row.workload for row in results.rows):
        parts.append(f"## {workload}: {workloads.load(workload).TITLE}\n")
        parts.append(_table(workload, systems, figures))
        parts.append(_notes(results, workload))
    return "\n".join(part for part in parts if part)


def _head(results: Results) -> str:
    facts = results.machine
    loads = [row.load["before"]["load_averages"][0] for row in results.rows if row.load]
    spins = [load[when]["spin_ms"] for row in results.rows if (load := row.load) for when in ("before", "after")]
    stolen = sum(row.load["after"]["steal_s"] - row.load["before"]["steal_s"] for row in results.rows if row.load)
    quick = "**A quick run, to see that all works: the figures mean nothing.**\n\n" if results.is_quick else ""
    return (
        f"# Benchmark run {results.run_id[:8]}, {results.started_at}\n\n{quick}"
        f"{facts['cores']} cores, {facts['cpu']}, {facts['memory_mb']} MB, Linux {facts['kernel']}, "
        f"Python {facts['python']}; {', '.join(f'{name} {version}' for name, version in facts['packages'].items())}.\n"
        f"Load average before each measurement: {min(loads, default=0):.2f} to {max(loads, default=0):.2f}; "
        f"stolen by the host: {stolen:.1f} s in all; a loop of a million steps in Python took "
        f"{min(spins, default=0):.0f} to {max(spins, default=0):.0f} ms.\n\n"
        "Medians, with the smallest and the largest of the repetitions. `x` says how many times better Tailplane is "
        "than the system left of it; below 1 it is behind.\n"
    )


def _table(workload: str, systems: Sequence[str], figures: dict[tuple[str, str, str], dict[str, Figure]]) -> str:
    wanted = (*SMALLER_IS_BETTER, *LARGER_IS_BETTER, *PLAIN)
    keys = [key for key in figures if key[0] == workload and key[2] in wanted]
    present = [system for system in systems if any(system in figures[key] for key in keys)]
    columns = [column for system in present for column in ([system] if system == OURS else [system, "x"])]
    lines = [f"| case | figure | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for key in keys:
        cells = [cell for system in present for cell in _cells(key[2], figures[key], system)]
        lines.append(f"| {key[1]} | {key[2]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(name: str, by_system: dict[str, Figure], system: str) -> list[str]:
    figure, ours = by_system.get(system), by_system.get(OURS)
    value = str(figure) if figure else ""
    if system == OURS:
        return [value]
    times = ratio(name, ours.middle, figure.middle) if figure and ours else None
    return [value, "" if times is None else f"{times:.2f}"]


def _notes(results: Results, workload: str) -> str:
    notes: dict[str, None] = {}
    for row in results.rows:
        if row.workload == workload:
            for note in [*row.notes, *([f"failed: {row.error}"] if row.error else [])]:
                notes[f"* {row.system}, run {row.repetition + 1}: {note}"] = None
    return "\n".join(notes) + "\n" if notes else ""
