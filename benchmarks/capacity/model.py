"""The model: what a load asks of each kind of process, and how many processes that takes. No I/O.

Everything is linear in the load but for three things: a stream's readers are spread over the control planes, so that
more of them hear of each entry; the queue stands on one primary, however large the deployment; and what is retained
takes memory for as long as it is retained, whether anybody reads it or not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.capacity.costs import Costs

GB = 1e9


@dataclass(frozen=True, slots=True)
class Load:
    """What a deployment is to carry, in its busiest minute.

    Attributes:
        tasks: how many run at once.
        rate: events that each writes per second; slow enough that each travels alone.
        seconds: how long each runs.
        readers: how many read each of them.
        retention: seconds for which a task is kept after its end.
    """

    tasks: int
    rate: float
    seconds: float
    readers: float
    retention: float

    @property
    def events_per_s(self) -> float:
        """How many events are written, over all tasks."""
        return self.tasks * self.rate

    @property
    def starts_per_s(self) -> float:
        """How many tasks start, and end."""
        return self.tasks / self.seconds

    @property
    def all_readers(self) -> float:
        """How many readers there are."""
        return self.tasks * self.readers


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a process may be loaded.

    Attributes:
        share: of a core: what is left is for bursts, for a neighbour that dies, and for latency.
        control_plane_bytes, worker_bytes, shard_bytes: memory of one process; a shard needs as much again while it
            rewrites its append-only file.
        connections: of a server of Redis, by its default `maxclients`, with some left for others.
    """

    share: float = 0.6
    control_plane_bytes: float = 2 * GB
    worker_bytes: float = 2 * GB
    shard_bytes: float = 16 * GB
    connections: int = 9_000


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many processes of each kind, and how much each kind is used: 1.0 is all that the limits give.

    Attributes:
        used: by resource, such as `queue, CPU`.
    """

    control_planes: int
    workers: int
    shards: int
    used: Mapping[str, float]

    @property
    def bottleneck(self) -> str:
        """The resource that a larger load exhausts first."""
        return max(self.used, key=lambda resource: self.used[resource])

    @property
    def is_enough(self) -> bool:
        """Whether it carries the load: where not, no number of processes would."""
        return all(used <= 1 + 1e-9 for used in self.used.values())


def hearing(readers: float, control_planes: int) -> float:
    """Return how many control planes tail a stream whose readers are spread evenly over them."""
    return control_planes * (1 - (1 - 1 / control_planes) ** readers)


def size(load: Load, costs: Costs, limits: Limits) -> Fleet:
    """Return the smallest fleet that carries the load, as far as processes can be added."""
    core = limits.share * 1e6
    workers = _whole(
        (load.events_per_s * costs.worker_entry + load.starts_per_s * costs.worker_task) / core,
        load.tasks * costs.worker_task_bytes / limits.worker_bytes,
    )
    control_planes = _control_planes(load, costs, limits)
    shards = _whole(_shard_time(load, costs, control_planes) / core, _shard_memory(load, costs) / limits.shard_bytes)
    return use(load, costs, limits, control_planes, workers, shards)


def use(load: Load, costs: Costs, limits: Limits, control_planes: int, workers: int, shards: int) -> Fleet:
    """Return how much a fleet of so many processes is used under a load."""
    core = limits.share * 1e6
    queue = load.starts_per_s * costs.queue_task + (workers + control_planes) * costs.queue_process_second
    used = {
        "control planes, CPU": _control_plane_time(load, costs, control_planes) / control_planes / core,
        "control planes, memory": load.all_readers * costs.control_plane_reader_bytes
        / control_planes / limits.control_plane_bytes,
        "workers, CPU": (load.events_per_s * costs.worker_entry + load.starts_per_s * costs.worker_task)
        / workers / core,
        "workers, memory": load.tasks * costs.worker_task_bytes / workers / limits.worker_bytes,
        "shards, CPU": _shard_time(load, costs, control_planes) / shards / core,
        "shards, memory": _shard_memory(load, costs) / shards / limits.shard_bytes,
        "shards, connections": (workers + control_planes) * costs.shard_connections / limits.connections,
        "queue, CPU": queue / core,
        "queue, connections": (workers + control_planes) * costs.queue_connections / limits.connections,
    }  # fmt: skip
    return Fleet(control_planes, workers, shards, used)


def _control_planes(load: Load, costs: Costs, limits: Limits) -> int:
    # More of them hear more: the number that is enough is looked for, not calculated.
    count = _whole(load.all_readers * costs.control_plane_reader_bytes / limits.control_plane_bytes)
    while _control_plane_time(load, costs, count) > count * limits.share * 1e6:
        count = max(count + 1, math.ceil(_control_plane_time(load, costs, count) / limits.share / 1e6))
    return count


def _control_plane_time(load: Load, costs: Costs, control_planes: int) -> float:
    heard = load.events_per_s * hearing(load.readers, control_planes)
    return (
        load.starts_per_s * (costs.control_plane_task + load.readers * costs.control_plane_connection)
        + heard * costs.control_plane_entry
        + load.events_per_s * load.readers * costs.control_plane_delivery
        + load.all_readers * costs.control_plane_reader_second
    )


def _shard_time(load: Load, costs: Costs, control_planes: int) -> float:
    told = hearing(load.readers, control_planes)
    return load.starts_per_s * costs.shard_task + load.events_per_s * (costs.shard_entry + told * costs.shard_hearing)


def _shard_memory(load: Load, costs: Costs) -> float:
    # A running task has on average written half of what it will have written.
    whole = costs.shard_task_bytes + load.rate * load.seconds * costs.shard_entry_bytes
    running = costs.shard_task_bytes + load.rate * load.seconds / 2 * costs.shard_entry_bytes
    return load.tasks * running + load.starts_per_s * load.retention * whole


def _whole(*needs: float) -> int:
    return max(1, math.ceil(max(needs) - 1e-9))
