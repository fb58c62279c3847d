"""Measures Tailplane beside other ways to do the same, on one machine in one go.

    python -m benchmarks run [--systems tailplane,by_hand] [--workloads W1,W2] [--runs 3] [--quick] [--out DIR]
    python -m benchmarks report FILE_OR_DIR ...

`run` writes DIR/<time>.json and .md; `report` prints the Markdown of JSON files, which must be of one run.
"""

import argparse
import importlib.util
import signal
import sys
import time
from pathlib import Path

from benchmarks import harness, workloads
from benchmarks.limits import raise_open_files
from benchmarks.report import markdown
from benchmarks.results import Results, merge

_RESULTS = Path(__file__).parent / "results"
_SYSTEMS = "tailplane,by_hand,by_hand_batched,raw"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("--systems", default=_SYSTEMS, help=f"modules of benchmarks.systems (default: {_SYSTEMS})")
    run.add_argument("--workloads", default=",".join(workloads.NAMES), help="default: all")
    run.add_argument("--runs", type=int, default=3, help="repetitions, of which the median counts (default: 3)")
    run.add_argument("--quick", action="store_true", help="small sizes, once: to see that all works")
    run.add_argument("--out", type=Path, default=_RESULTS, help="directory of the results")
    run.set_defaults(call=_run)
    report = commands.add_parser("report", help="print the Markdown of results")
    report.add_argument("where", type=Path, nargs="+", help="JSON files, or directories of them")
    report.set_defaults(call=_report)
    arguments = parser.parse_args()
    # Ended by SIGTERM as by Ctrl-C: what was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return int(arguments.call(arguments))


def _run(arguments: argparse.Namespace) -> int:
    names = arguments.workloads.split(",")
    if unknown := sorted(set(names) - set(workloads.NAMES)):
        print(f"no such workloads: {', '.join(unknown)}", file=sys.stderr)
        return 2
    wanted = arguments.systems.split(",")
    if unknown := [name for name in wanted if importlib.util.find_spec(f"benchmarks.systems.{name or '-'}") is None]:
        print(f"no such systems: {', '.join(map(repr, unknown))}", file=sys.stderr)
        return 2
    raise_open_files()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / time.strftime("%Y%m%d-%H%M%S.json")
    runs = 1 if arguments.quick else arguments.runs
    plan = harness.RunPlan(wanted, names, runs, arguments.quick)
    results = harness.run(plan, file)
    file.with_suffix(".md").write_text(markdown(results))
    print(file.with_suffix(".md"))
    return int(any(row.error for row in results.rows))


def _report(arguments: argparse.Namespace) -> int:
    files = [
        file for where in arguments.where for file in (sorted(where.glob("*.json")) if where.is_dir() else [where])
    ]
    try:
        print(markdown(merge(Results.load(file) for file in files)))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
