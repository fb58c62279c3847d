"""`python -m tests.chaos`: a run of any length. Ends with 1 where a promise was broken."""

import argparse
import asyncio
import secrets
import sys
from pathlib import Path

import uvloop

from tests.chaos.campaign import Plan, run
from tests.chaos.faults import OF_ONE_SERVER, OF_SHARDS, Kind
from tests.chaos.report import lines, markdown

# A minute: enough that there is always something to disturb, and few enough for two cores.
_TASKS_A_MINUTE = 80


_KINDS = {kind.name.lower().replace("_", "-"): kind for kind in Kind}


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long faults are inflicted (5)")
    parser.add_argument("--seed", type=int, help="repeats the faults and tasks of an earlier run (drawn)")
    parser.add_argument("--tasks", type=int, help=f"how many tasks in all ({_TASKS_A_MINUTE} for each minute)")
    parser.add_argument("--store", choices=("one", "cluster"), default="one", help="where the streams are (one server)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=_KINDS,
        metavar="KIND",
        help=f"only these: {', '.join(_KINDS)}",
    )
    parser.add_argument("--report", type=Path, help="a file that takes the report as Markdown")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    tasks = given.tasks or max(1, round(given.minutes * _TASKS_A_MINUTE))
    has_shards = given.store == "cluster"
    kinds = tuple(_KINDS[name] for name in given.kinds or ()) or (tuple(Kind) if has_shards else OF_ONE_SERVER)
    if not has_shards and set(kinds) & set(OF_SHARDS):
        parser.error("those kinds of faults need --store cluster")
    plan = Plan(seed=seed, seconds=given.minutes * 60, tasks=tasks, kinds=kinds, has_shards=has_shards)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(run(plan, lambda line: print(line, flush=True)))
    print("\n".join(lines(report)))
    if given.report:
        given.report.write_text(markdown(report))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
