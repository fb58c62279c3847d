"""The driver: one process that puts one workload on one system through the system's client, and prints what came out.

    python -m benchmarks.drive --system tailplane --workload W2 --params JSON --started JSON

Run by the harness, with the interpreter that the system wants. Standard library only, but for the system's client. The
last line of its output is one JSON object: {"cases": {case: {figure: number}}, "notes": [str],
"error": str or null}.
"""

import argparse
import asyncio
import importlib
import json
import traceback
from typing import Any

from benchmarks import workloads
from benchmarks.limits import raise_open_files
from benchmarks.stand import Measure, Stand
from benchmarks.system import Started


async def drive(system: Any, measure: Measure, started: Started, params: dict[str, Any]) -> dict[str, Any]:
    """Connect, measure and disconnect."""
    client = system.make_client()
    stand = Stand(system, client, started, params)
    error = None
    try:
        await client.open(started.address)
        try:
            await measure(stand)
        finally:
            await client.close()
    except Exception as failure:
        # What was measured before still counts.
        traceback.print_exception(failure)
        error = _first_reason(failure)
    return {"cases": stand.cases, "notes": stand.notes, "error": error}


def _first_reason(failure: BaseException) -> str:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return f"{type(failure).__name__}: {failure}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", required=True)
    parser.add_argument("--workload", required=True, choices=workloads.NAMES)
    parser.add_argument("--params", required=True, type=json.loads)
    parser.add_argument("--started", required=True, type=json.loads)
    arguments = parser.parse_args()
    raise_open_files()
    system = importlib.import_module(f"benchmarks.systems.{arguments.system}")
    own = getattr(system, "MEASURES", {}).get(arguments.workload)
    measure = own or workloads.load(arguments.workload).measure
    outcome = asyncio.run(drive(system, measure, Started(**arguments.started), arguments.params))
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
