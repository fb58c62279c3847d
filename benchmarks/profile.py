"""Flame graphs of Tailplane's processes under W3 and W4, in benchmarks/profiles.

    python -m benchmarks.profile [--workloads W3,W4] [--seconds 12] [--out DIR]

py-spy samples the worker, the control plane and the client while the workload runs. Redis is no Python: of it the calls
and the time per command are written, taken from its own statistics.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import redis_info
from benchmarks.limits import raise_open_files
from benchmarks.processes import Process
from benchmarks.system import Started
from benchmarks.systems import tailplane
from benchmarks.workloads import flat_out, many_tasks

_PROFILES = Path(__file__).parent / "profiles"
_RATE_HZ = 100
# Seconds until all tasks are submitted and all readers connected.
_LEAD_S = {"W3": 2.0, "W4": 12.0}
# Seconds that the driver gets beyond the sampling.
_SLACK_S = 60


def params_of(workload: str, seconds: float) -> dict[str, Any]:
    """Return sizes that keep the workload going for as long as it is sampled."""
    lasting = seconds + _LEAD_S[workload] + 2
    if workload == "W3":
        return {**flat_out.FULL, "pilot": 10_000, "events": [10_000_000], "longest": lasting}
    return {**many_tasks.FULL, "tasks": [1000], "token_tasks": 0, "seconds": lasting}


def profile(workload: str, seconds: float, folder: Path) -> None:
    """Run the workload once and write a graph per process."""
    servers = tailplane.make_servers()
    try:
        started = servers.start()
        driver = _start_driver(workload, started, seconds, folder)
        try:
            before = _commands(started)
            _sample(workload, {**started.pids, "client": [driver.pid]}, seconds, folder)
            (folder / f"{workload}-redis.txt").write_text(_difference(before, _commands(started)))
            _wait(driver)
        finally:
            driver.stop()
    finally:
        servers.stop()


def _start_driver(workload: str, started: Started, seconds: float, folder: Path) -> Process:
    arguments = {"workload": workload, "params": params_of(workload, seconds), "started": asdict(started)}
    words = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in arguments.items()]
    command = [sys.executable, "-m", "benchmarks.drive", "--system=tailplane", *words]
    log = folder / f"{workload}-figures.json"
    log.unlink(missing_ok=True)
    return Process(command, log)


def _sample(workload: str, roles: dict[str, list[int]], seconds: float, folder: Path) -> None:
    time.sleep(_LEAD_S[workload])
    samplers = []
    with tempfile.TemporaryFile() as output:
        for role, pids in roles.items():
            if role != "redis":
                graph = folder / f"{workload}-{role.replace(' ', '-')}.svg"
                command = [
                    _py_spy(),
                    "record",
                    "--threads",
                    "--nonblocking",
                    "--rate",
                    str(_RATE_HZ),
                    "--duration",
                    f"{seconds:.0f}",
                ]
                command += ["--format", "flamegraph", "--output", str(graph), "--pid", str(pids[0])]
                samplers.append(subprocess.Popen(command, stdout=output, stderr=output))
        try:
            for sampler in samplers:
                sampler.wait(seconds + _SLACK_S)
        finally:
            for sampler in samplers:
                sampler.kill()
                sampler.wait()
        if any(sampler.returncode for sampler in samplers):
            output.seek(0)
            raise RuntimeError(f"py-spy failed: {output.read().decode(errors='replace')}")


def _py_spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    if found := str(beside) if beside.exists() else shutil.which("py-spy"):
        return found
    raise RuntimeError("there is no py-spy: pip install 'tailplane[bench]'")


def _wait(driver: Process) -> None:
    deadline = time.monotonic() + _SLACK_S * 2
    while not driver.has_ended:
        if time.monotonic() > deadline:
            raise RuntimeError("the driver does not end")
        time.sleep(0.1)
    if driver.exit_code:
        raise RuntimeError(f"the driver failed: {driver.log}")


def _commands(started: Started) -> dict[str, tuple[int, int]]:
    """Return calls and microseconds by command."""
    found = {}
    for name, line in redis_info.info(started.redis_url or "", "commandstats").items():
        fields = dict(field.split("=") for field in line.strip().split(","))
        found[name.removeprefix("cmdstat_")] = (int(fields["calls"]), int(fields["usec"]))
    return found


def _difference(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> str:
    rows = []
    for name, (calls, usec) in after.items():
        earlier_calls, earlier_usec = before.get(name, (0, 0))
        if calls > earlier_calls:
            rows.append((usec - earlier_usec, calls - earlier_calls, name))
    lines = [f"{'command':24}{'calls':>12}{'ms':>12}{'us a call':>12}"]
    lines += [f"{name:24}{calls:12}{usec / 1000:12.1f}{usec / calls:12.2f}" for usec, calls, name in sorted(rows)[::-1]]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default=",".join(_LEAD_S))
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--out", type=Path, default=_PROFILES)
    arguments = parser.parse_args()
    raise_open_files()
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = arguments.workloads.split(",")
    if unknown := sorted(set(names) - set(_LEAD_S)):
        parser.error(f"no graphs of {', '.join(unknown)}: choose from {', '.join(_LEAD_S)}")
    for workload in names:
        print(f"{workload}: about {_LEAD_S[workload] * 2 + arguments.seconds:.0f} s")
        profile(workload, arguments.seconds, arguments.out)
    print(*sorted(str(file) for file in arguments.out.iterdir()), sep="\n")


if __name__ == "__main__":
    main()
