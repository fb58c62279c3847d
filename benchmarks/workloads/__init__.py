"""The workloads, one module each. A module has:

TITLE: str                      what it measures, in a line
FULL, QUICK: dict[str, Any]     its sizes; `time_limit` and the like in seconds
SYSTEMS: frozenset[str] | None  the systems that it makes sense for; None: all that can
measure(stand) -> None          measures, and fills `stand.cases`
"""

import importlib
from types import ModuleType

_MODULES = {
    "W1": "first_event",
    "W2": "paced",
    "W3": "flat_out",
    "W4": "many_tasks",
    "W5": "trivial_tasks",
    "W6": "many_readers",
    "W7": "cut_readers",
    "W8": "quiet_readers",
    "W9": "growth",
}

NAMES = tuple(_MODULES)


def load(name: str) -> ModuleType:
    """Return the module of a workload."""
    return importlib.import_module(f"benchmarks.workloads.{_MODULES[name]}")
