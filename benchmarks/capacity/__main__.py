"""What a deployment must consist of, calculated from the costs that were measured.

python -m benchmarks.capacity            # the tables of docs/scaling.md
python -m benchmarks.capacity measure    # first takes the costs of this machine (two minutes, a quiet machine)
python -m benchmarks.capacity fleet --tasks 2000 --rate 20 --seconds 60 --readers 1 --retention 86400
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from benchmarks import machine
from benchmarks.capacity import costs, tables
from benchmarks.capacity.measure import measure
from benchmarks.capacity.model import Load


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("measure", help="take the costs of this machine")
    fleet = commands.add_parser("fleet", help="what one load takes")
    fleet.add_argument("--tasks", type=int, required=True, help="running at once")
    fleet.add_argument("--rate", type=float, required=True, help="events of a task per second")
    fleet.add_argument("--seconds", type=float, required=True, help="how long a task runs")
    fleet.add_argument("--readers", type=float, default=1.0, help="of each task")
    fleet.add_argument("--retention", type=float, default=tables.DAY, help="seconds for which a task is kept")
    options = parser.parse_args(arguments)
    if options.command == "measure":
        costs.save(asyncio.run(measure()), machine.facts())
    if options.command == "fleet":
        load = Load(options.tasks, options.rate, options.seconds, options.readers, options.retention)
        print("\n".join(tables.ladder(costs.load(), load, [options.tasks])))
    else:
        print(tables.report(costs.load()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
