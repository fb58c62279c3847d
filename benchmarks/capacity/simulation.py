"""The simulation: the model's fleet with tasks and readers placed at random, as hashing and a load balancer place them.

The model spreads everything evenly. Here tasks differ in their rates (log-normal), a task's slot is drawn, readers
go to the control plane that the balancer draws for them, and claims to whichever worker is drawn. Told is how much the
fullest process of each kind is used, and what happens when one control plane dies: its readers come back to the others.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.model import Fleet, Limits, Load

# Of the logarithm of a task's rate: one task in six writes twice as much as the middle one, one in 300 six times.
SPREAD = 0.7
# Beyond so many tasks, each drawn one stands for several.
MOST_DRAWN = 50_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one simulation found.

    Attributes:
        fullest: the use of the fullest process of each kind; 1.0 is what the limits give.
        come_back_s: seconds until the readers of a control plane that died have all been let in by the others, which
            give them what the limits leave and the whole rest of their cores; infinite: there is no other.
    """

    fullest: Mapping[str, float]
    come_back_s: float


def simulate(load: Load, costs: Costs, limits: Limits, fleet: Fleet, seed: int = 1) -> Outcome:
    """Place the load on the fleet and return how uneven that is."""
    draw = random.Random(seed)
    drawn = min(load.tasks, MOST_DRAWN)
    core = limits.share * 1e6
    # Fewer, heavier tasks scatter more than all of them would: what is told is rather too uneven than too even.
    weight = load.tasks / drawn
    shards = [0.0] * fleet.shards
    workers = [0.0] * fleet.workers
    control_planes = [0.0] * fleet.control_planes
    mean = -SPREAD * SPREAD / 2
    once = 1 / load.seconds
    for _ in range(drawn):
        rate = load.rate * draw.lognormvariate(mean, SPREAD)
        places = _readers_of_one(load.readers, fleet.control_planes, draw)
        heard = len(places)
        shards[draw.randrange(fleet.shards)] += weight * (
            once * costs.shard_task + rate * (costs.shard_entry + heard * costs.shard_hearing)
        )
        workers[draw.randrange(fleet.workers)] += weight * (once * costs.worker_task + rate * costs.worker_entry)
        control_planes[draw.randrange(fleet.control_planes)] += weight * once * costs.control_plane_task
        for place, readers in places.items():
            control_planes[place] += weight * (
                rate * (costs.control_plane_entry + readers * costs.control_plane_delivery)
                + readers * (once * costs.control_plane_connection + costs.control_plane_reader_second)
            )
    fullest = {
        "control planes": max(control_planes) / core,
        "workers": max(workers) / core,
        "shards": max(shards) / core,
    }
    return Outcome(fullest, _come_back(load, costs, control_planes))


def _readers_of_one(readers: float, control_planes: int, draw: random.Random) -> dict[int, int]:
    count = math.floor(readers) + (draw.random() < readers % 1)
    places: dict[int, int] = {}
    for _ in range(count):
        place = draw.randrange(control_planes)
        places[place] = places.get(place, 0) + 1
    return places


def _come_back(load: Load, costs: Costs, control_planes: list[float]) -> float:
    others = sorted(control_planes)[:-1]
    if not others:
        return math.inf
    lost = max(control_planes)
    # Those who come back cost their connection once, and from then on what they cost before.
    free = sum(1e6 - used for used in others) - lost
    readers = load.all_readers / len(control_planes)
    return readers * costs.control_plane_connection / free if free > 0 else math.inf
