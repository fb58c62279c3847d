"""The schedule of a run's faults: which, against what, when and for how long; it follows from the seed. No I/O.

The faults come in rounds: one of each kind in each, at times drawn within it. Between them the fleet must be able to
get on: a fault waits for its turn while two of three workers are out, or a control plane is. And somebody must be able
to give back what a worker lost, before that worker is there again: after Valkey was away a control plane trusts no
stale lease for five seconds. So Valkey's restarts come in pairs, and for two rounds one control plane suffers all that
control planes do.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.orders import TENANTS


class Kind(StrEnum):
    """What is done to the fleet."""

    WORKER_KILLED = "worker killed"
    WORKER_STOPPED = "worker stopped and continued"
    WORKER_DRAINED = "worker drained"
    CONTROL_PLANE_KILLED = "control plane killed"
    CONTROL_PLANE_DRAINED = "control plane drained"
    WORKER_CUT = "worker cut from Valkey"
    CONTROL_PLANE_CUT = "control plane cut from Valkey"
    CLIENTS_CUT = "clients cut from the control planes"
    STORE_RESTARTED = "Valkey restarted"
    SHARD_KILLED = "primary of a shard killed"
    SLOTS_MOVED = "slots moved to another shard"
    KEY_ROTATED = "API key rotated"
    KEY_REPLACED = "API key revoked and replaced"


# What only a cluster suffers.
OF_SHARDS = (Kind.SHARD_KILLED, Kind.SLOTS_MOVED)
OF_ONE_SERVER = tuple(kind for kind in Kind if kind not in OF_SHARDS)


class Cut(StrEnum):
    """How connections break."""

    RESET = "reset"
    """All at once; new ones may be made."""

    REFUSED = "refused"
    """All at once, and new ones are reset for as long as it lasts."""

    SILENT = "silent"
    """Nothing gets through for as long as it lasts, and nobody is told."""


class Restart(StrEnum):
    """How Valkey ends."""

    KILLED = "killed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at: seconds from the beginning of the run.
        kind: what is done.
        target: to which worker, control plane or tenant, from 0; always 0 for Valkey and for the way of the clients.
        lasts: seconds for which a process is away or stopped, a connection broken, or an old secret good.
        how: of a cut or a restart; else empty.
    """

    at: float
    kind: Kind
    target: int
    lasts: float
    how: str = ""

    def __str__(self) -> str:
        how = f" ({self.how})" if self.how else ""
        return f"{self.at:.1f} s: {self.kind}{how}, number {self.target + 1}, for {self.lasts:.1f} s"


# How many shards a cluster has.
SHARDS = 3
# Seconds of one round; all faults of one take a little less, where each waits for its turn.
ROUND = 10.0
_ROUNDS_TOGETHER = 2
# Seconds between two restarts of Valkey that belong together.
_SOON = (2.0, 3.5)
# Seconds from a process' start until it works, with some to spare on a busy machine.
_STARTING = 2.5
_STEP = 0.25
_OF_CONTROL_PLANES = (Kind.CONTROL_PLANE_KILLED, Kind.CONTROL_PLANE_DRAINED, Kind.CONTROL_PLANE_CUT)
_OF_WORKER_PROCESSES = (Kind.WORKER_KILLED, Kind.WORKER_STOPPED, Kind.WORKER_DRAINED)


def schedule(
    seed: int, seconds: float, workers: int, control_planes: int, kinds: Sequence[Kind] = OF_ONE_SERVER
) -> list[Fault]:
    """Return the faults of a run of about that length, in order of their times; only of these `kinds`."""
    draw = random.Random(f"faults {seed}")
    rounds = max(1, round(seconds / ROUND))
    length = seconds / rounds
    timetable = _Timetable(draw, workers, control_planes)
    faults: list[Fault] = []
    for first in range(0, rounds, _ROUNDS_TOGETHER):
        together = min(_ROUNDS_TOGETHER, rounds - first)
        timetable.sufferer = draw.randrange(control_planes)
        wanted = [(at, kind) for kind in kinds for at in _times(draw, kind, together, length)]
        faults += [timetable.place(first * length + at, kind) for at, kind in sorted(wanted)]
    return sorted(faults, key=lambda fault: fault.at)


def _times(draw: random.Random, kind: Kind, rounds: int, length: float) -> list[float]:
    """Return when the faults of a kind are to come in some rounds of this length."""
    if kind is not Kind.STORE_RESTARTED:
        return [length * (number + draw.random()) for number in range(rounds)]
    times = [draw.uniform(0.0, rounds * length - _SOON[1])]
    while len(times) < rounds:
        times.append(times[-1] + draw.uniform(*_SOON))
    return times


class _Timetable:
    """Who is out of order when. `sufferer` is the control plane whose turn it is."""

    def __init__(self, draw: random.Random, workers: int, control_planes: int) -> None:
        self._draw = draw
        self._workers = workers
        self._control_planes = control_planes
        self._busy_until: dict[str, float] = {}
        self.sufferer = 0

    def place(self, at: float, kind: Kind) -> Fault:
        """Return a fault of this kind, as soon from `at` on as what it is against is in order."""
        lasts, how, starting = self._shape(kind)
        places = self._places(kind)
        # One worker at least stays, where there are several.
        least = min(2, self._workers) if kind in _OF_WORKER_PROCESSES else 1
        while len(free := [i for i, name in enumerate(places) if self._busy_until.get(name, 0.0) <= at]) < least:
            at += _STEP
        target = self.sufferer if kind in _OF_CONTROL_PLANES else self._draw.choice(free)
        self._busy_until[places[target]] = at + lasts + starting
        return Fault(round(at, 3), kind, target, round(lasts, 3), how)

    def _shape(self, kind: Kind) -> tuple[float, str, float]:
        """Return how long a fault lasts, how it is done, and how long it takes from there until all is well."""
        draw = self._draw
        match kind:
            case Kind.WORKER_KILLED | Kind.CONTROL_PLANE_KILLED:
                return draw.uniform(0.1, 1.5), "", _STARTING
            case Kind.WORKER_STOPPED:
                # Longer than a lease, so that its tasks are taken over meanwhile: a zombie.
                return draw.uniform(4.5, 9.0), "", 0.5
            case Kind.WORKER_DRAINED | Kind.CONTROL_PLANE_DRAINED:
                return draw.uniform(0.0, 0.3), "", _STARTING + 1.0
            case Kind.STORE_RESTARTED:
                return draw.uniform(0.2, 1.5), draw.choice(list(Restart)), 1.0
            case Kind.SHARD_KILLED:
                # Until its replica has taken over, and it has become a replica of that.
                return draw.uniform(0.2, 1.5), "", 4.0
            case Kind.SLOTS_MOVED:
                return 0.0, "", 2.0
            case Kind.KEY_ROTATED:
                return draw.uniform(0.2, 4.0), "", 0.5
            case Kind.KEY_REPLACED:
                return 0.0, "", 0.5
            case Kind.WORKER_CUT | Kind.CONTROL_PLANE_CUT | Kind.CLIENTS_CUT:
                how = draw.choice(list(Cut))
                return (0.0 if how is Cut.RESET else draw.choice((draw.uniform(0.3, 2), draw.uniform(2, 6)))), how, 0.5

    def _places(self, kind: Kind) -> list[str]:
        """Return what each target of such a fault is called in the timetable."""
        match kind:
            case Kind.WORKER_KILLED | Kind.WORKER_STOPPED | Kind.WORKER_DRAINED:
                return [f"worker {i}" for i in range(self._workers)]
            case Kind.WORKER_CUT:
                return [f"link of worker {i}" for i in range(self._workers)]
            case Kind.CONTROL_PLANE_CUT:
                return ["link of a control plane"] * self._control_planes
            case Kind.CONTROL_PLANE_KILLED | Kind.CONTROL_PLANE_DRAINED:
                # One at a time.
                return ["control planes"] * self._control_planes
            case Kind.CLIENTS_CUT | Kind.STORE_RESTARTED:
                return [kind]
            case Kind.SHARD_KILLED | Kind.SLOTS_MOVED:
                # One at a time: a slot whose server dies on the way stays half moved.
                return ["shards"] * SHARDS
            case Kind.KEY_ROTATED | Kind.KEY_REPLACED:
                return [f"key of {tenant}" for tenant in TENANTS]
