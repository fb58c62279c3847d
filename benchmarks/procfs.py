"""What Linux tells of processes: processor time, memory, and the machine's load. Standard library only.

Processor time counts threads and descendants, also those that have ended and were waited for. Its grain is the kernel's
tick, 10 ms.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def family(pids: Iterable[int]) -> set[int]:
    """Return these processes and all that descend from them, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: set[int] = set()
    to_visit = list(pids)
    while to_visit:
        pid = to_visit.pop()
        if pid not in found:
            found.add(pid)
            to_visit.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the user and system time that these processes and their descendants have taken."""
    total = 0.0
    for pid in family(pids):
        if fields := _stat(pid):
            total += sum(int(field) for field in fields[11:15]) * _TICK_S
    return total


def exact_cpu_seconds(pid: int) -> float:
    """Return the user and system time of one process' living threads, to the nanosecond; not of its descendants."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except OSError:
            # It has ended meanwhile.
            continue
    return total / 1e9


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes and their descendants; pages that they share count in part (PSS)."""
    return sum(_pss(pid) for pid in family(pids))


def rss_bytes(pid: int) -> int:
    """Return the resident memory of one process, in a look that costs neither side anything."""
    return _field_kb(Path(f"/proc/{pid}/status"), "VmRSS:") * 1024


def peak_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the largest resident sizes that each of these processes and their descendants ever had."""
    return sum(_field_kb(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024 for pid in family(pids))


def steal_seconds() -> float:
    """Return the processor time that the host has withheld from this machine since its boot."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) * _TICK_S


def load_averages() -> list[float]:
    """Return how many processes wanted to run, over 1, 5 and 15 minutes."""
    return [float(word) for word in Path("/proc/loadavg").read_text().split()[:3]]


class CpuMeter:
    """Processor time by role since it was made or reset."""

    def __init__(self, roles: dict[str, list[int]]) -> None:
        self._roles = roles
        self.reset()

    def reset(self) -> None:
        """Count from now on."""
        self._begun = {role: cpu_seconds(pids) for role, pids in self._roles.items()}
        self._since = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Return the seconds by role."""
        return {role: cpu_seconds(pids) - self._begun[role] for role, pids in self._roles.items()}

    def total(self) -> float:
        """Return the seconds over all roles."""
        return sum(self.seconds().values())

    def elapsed(self) -> float:
        """Return the seconds on the clock."""
        return time.monotonic() - self._since


def _stat(pid: int) -> list[str]:
    # The name in parentheses may hold anything, also spaces and parentheses.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss(pid: int) -> int:
    return _field_kb(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024


def _field_kb(file: Path, name: str) -> int:
    try:
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
