"""Puts the workloads on the systems, in turn: for each workload and each repetition, one system after the other.

So whatever drifts on the machine hits all systems alike. Each measurement starts its system afresh, and ends it.
"""

import importlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine, workloads
from benchmarks.processes import run_driver
from benchmarks.results import Results, Row

# Seconds that a driver gets beyond its workload's longest run, by default twice its time limit.
_DRIVER_SLACK_S = 60


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is to be measured.

    Attributes:
        systems, workloads: their names, in order.
        runs: repetitions; a workload may ask for fewer.
        is_quick: small sizes, to see that all works; the figures mean nothing.
    """

    systems: Sequence[str]
    workloads: Sequence[str]
    runs: int
    is_quick: bool


def run(plan: RunPlan, file: Path) -> Results:
    """Measure all, writing `file` after each measurement."""
    systems = {name: importlib.import_module(f"benchmarks.systems.{name}") for name in plan.systems}
    pythons = {name: system.prepare() for name, system in systems.items()}
    results = Results.begin(machine.facts(), is_quick=plan.is_quick)
    for workload in plan.workloads:
        module = workloads.load(workload)
        params = module.QUICK if plan.is_quick else module.FULL
        results.params[workload] = params
        for repetition in range(min(plan.runs, params.get("runs", plan.runs))):
            for name, system in systems.items():
                if workload in system.WORKLOADS and (module.SYSTEMS is None or name in module.SYSTEMS):
                    row = _measure(system, name, workload, params, pythons[name])
                    row.repetition = repetition
                    results.rows.append(row)
                    results.save(file)
    return results


def _measure(system: Any, name: str, workload: str, params: dict[str, Any], python: str) -> Row:
    row = Row(workload, name, 0)
    before, begun = machine.load(), time.monotonic()
    servers = system.make_servers()
    try:
        started = servers.start()
        arguments = [f"--system={name}", f"--workload={workload}", f"--params={json.dumps(params)}"]
        outcome = run_driver(
            [*arguments, f"--started={json.dumps(asdict(started))}"],
            python,
            params.get("longest_run", params["time_limit"] * 2) + _DRIVER_SLACK_S,
        )
        found = json.loads(outcome)
        row.cases, row.notes, row.error = found["cases"], found["notes"], found["error"]
    except Exception as error:
        # One system that fails must not cost the figures of the others.
        row.error = str(error)
    finally:
        servers.stop()
    row.load = {"before": before, "after": machine.load(), "seconds": time.monotonic() - begun}
    _tell(row)
    return row


def _tell(row: Row) -> None:
    print(f"{row.workload} {row.system} ({row.load['seconds']:.0f} s)", file=sys.stderr)
    for case, figures in row.cases.items():
        told = "  ".join(f"{name}={value:.4g}" for name, value in figures.items())
        print(f"    {case}: {told}", file=sys.stderr)
    for note in [*row.notes, *([row.error] if row.error else [])]:
        print(f"    ! {note}", file=sys.stderr)
