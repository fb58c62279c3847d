"""`python -m tests.upgrade --from COMMIT`: a fleet of an older state is replaced, process by process, under load.

First the workers, then the control planes, each drained and started again with the code of this tree, while tasks of
all kinds run and are read. Then every task is checked as after chaos. Ends with 1 where a promise was broken.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.chaos.campaign import Plan, run
from tests.chaos.faults import Fault, Kind
from tests.chaos.fleet import Fleet
from tests.chaos.history import Inflicted
from tests.chaos.report import lines

_ROOT = Path(__file__).parents[2]
_PARTS = ("protocol", "broker", "control_plane", "workers", "client", "deploy")
# Seconds of load before the first process is replaced, and between two of them: both versions are at work for a while.
_PAUSE = 3.0
_TASKS_A_SECOND = 2


def unpack(commit: str, directory: Path) -> str:
    """Unpack the parts as they were, and return the search path that finds them.

    Raises:
        subprocess.CalledProcessError: git does not know the commit, or a part was not there.
    """
    packed = subprocess.run(["git", "archive", commit, *_PARTS], cwd=_ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(directory)], input=packed, check=True)
    return _search_path(directory)


def _search_path(directory: Path) -> str:
    return os.pathsep.join(str(directory / part) for part in _PARTS)


async def replace(fleet: Fleet, done: list[Inflicted]) -> None:
    """Replace each process of the fleet by one of this tree's code."""
    # Children get this process' environment when they start.
    os.environ["PYTHONPATH"] = _search_path(_ROOT)
    for kind, members in ((Kind.WORKER_DRAINED, fleet.workers), (Kind.CONTROL_PLANE_DRAINED, fleet.control_planes)):
        for target, member in enumerate(members):
            await asyncio.sleep(_PAUSE)
            async with member.lock:
                began, pid = time.time(), member.pid
                await member.drain()
                await member.start()
                done.append(Inflicted(Fault(began, kind, target, lasts=0.0), began, time.time(), pid))
    await asyncio.sleep(_PAUSE)


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument("--from", dest="commit", required=True, help="the commit whose fleet is replaced")
    parser.add_argument("--seconds", type=float, default=40.0, help="over which tasks are submitted (40)")
    given = parser.parse_args()
    tasks = round(given.seconds * _TASKS_A_SECOND)
    # The fleet that is replaced may know of no keys.
    plan = Plan(seed=1, seconds=given.seconds, tasks=tasks, signs_in=False, upheaval=replace)
    with tempfile.TemporaryDirectory(prefix="tailplane-upgrade-") as directory:
        os.environ["PYTHONPATH"] = unpack(given.commit, Path(directory))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run(plan, lambda line: print(line, flush=True)))
    print("\n".join(lines(report)))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
