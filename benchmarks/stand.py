"""The stand on which a workload measures a system: its client, the processes to watch, and the time that is left."""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.procfs import CpuMeter
from benchmarks.system import Client, Started

Figures = dict[str, float]
Measure = Callable[["Stand"], Awaitable[None]]


@dataclass
class Stand:
    """What a workload gets.

    Attributes:
        system: the module of the system under test.
        client: connected.
        started: the system's addresses and processes.
        params: the workload's sizes.
        cases: figures by case, filled by the workload.
        notes: what a reader of the figures must know, such as sizes that were scaled down.
    """

    system: Any
    client: Client
    started: Started
    params: dict[str, Any]
    cases: dict[str, Figures] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def roles(self) -> dict[str, list[int]]:
        """Return all processes whose time an event costs: the servers', and this one's."""
        return {**self.started.pids, "client": [os.getpid()]}

    def meter(self) -> CpuMeter:
        """Return a meter over all processes, counting from now."""
        return CpuMeter(self.roles())

    @property
    def is_late(self) -> bool:
        """Whether the workload's time is used up: it then reports what it has."""
        return time.monotonic() - self.begun > self.params["time_limit"]
