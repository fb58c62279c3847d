"""The tables of docs/scaling.md, from the costs that were measured. A test compares them with what stands there."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.model import Fleet, Limits, Load, size
from benchmarks.capacity.simulation import simulate

HOUR, DAY = 3600.0, 86400.0
LIMITS = Limits()

LADDERS: Sequence[tuple[str, Load, Sequence[int]]] = (
    (
        "An event a second, a reader for each task (tasks of a minute, kept for an hour)",
        Load(tasks=0, rate=1, seconds=60, readers=1, retention=HOUR),
        (1_000, 10_000, 100_000, 1_000_000),
    ),
    (
        "Tokens: 20 events a second, a reader for each task (tasks of 30 s, kept for an hour)",
        Load(tasks=0, rate=20, seconds=30, readers=1, retention=HOUR),
        (50, 500, 5_000, 50_000),
    ),
    (
        "Watched by many: 20 events a second, 20 readers for each task (tasks of ten minutes, kept for an hour)",
        Load(tasks=0, rate=20, seconds=600, readers=20, retention=HOUR),
        (50, 500, 5_000, 50_000),
    ),
)


def unit_costs(costs: Costs) -> Iterator[str]:
    """Yield the table of what each kind of work costs, and how much of it one process carries within the limits."""
    core = LIMITS.share * 1e6
    yield "| one | work | costs | carries |"
    yield "| --- | --- | --- | --- |"
    alone = costs.control_plane_entry + costs.control_plane_delivery
    heard = costs.shard_entry + costs.shard_hearing
    for process, work, cost in (
        ("control plane", "a task submitted and its result awaited", costs.control_plane_task),
        ("control plane", "an event to the only reader of its stream", alone),
        ("control plane", "an event to one more reader", costs.control_plane_delivery),
        ("control plane", "a reader let in", costs.control_plane_connection),
        ("control plane", "a quiet reader, each second", costs.control_plane_reader_second),
        ("worker", "a task that does nothing", costs.worker_task),
        ("worker", "an event that travels alone, the workflow's `sleep` included", costs.worker_entry),
        ("worker", "an event that travels with a thousand others", costs.worker_event),
        ("shard", "a task", costs.shard_task),
        ("shard", "an event that travels alone, with one control plane that hears it", heard),
        ("shard", "telling one more control plane", costs.shard_hearing),
        ("shard", "an event that travels with a thousand others", costs.shard_event),
        ("queue", "a task", costs.queue_task),
        ("queue", "an idle process, each second", costs.queue_process_second),
    ):  # fmt: skip
        unit = "" if work.endswith("each second") else "/s"
        yield f"| {process} | {work} | {_figure(cost)} us | {_figure(core / cost)}{unit} |"
    for process, work, cost, room in (
        ("control plane", "a quiet reader", costs.control_plane_reader_bytes, LIMITS.control_plane_bytes),
        ("worker", "a running task", costs.worker_task_bytes, LIMITS.worker_bytes),
        ("shard", "a task kept, without its events", costs.shard_task_bytes, LIMITS.shard_bytes),
        ("shard", "an event kept that travelled alone", costs.shard_entry_bytes, LIMITS.shard_bytes),
    ):
        yield f"| {process} | {work} | {_figure(cost)} bytes | {_figure(room / cost)} |"


def ladder(costs: Costs, load: Load, sizes: Sequence[int]) -> Iterator[str]:
    """Yield the table of what a load takes at each size."""
    yield (
        "| tasks at once | readers | events/s | control planes | workers | shards | queue's primary | "
        "first bottleneck | fullest, simulated | a control plane dies | shards, kept for a day |"
    )
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | ---: | ---: |"
    for tasks in sizes:
        one = replace(load, tasks=tasks)
        fleet = size(one, costs, LIMITS)
        found = simulate(one, costs, LIMITS, fleet)
        uneven = max(found.fullest, key=lambda kind: found.fullest[kind])
        kept = size(replace(one, retention=DAY), costs, LIMITS)
        yield (
            f"| {tasks:,} | {one.all_readers:,.0f} | {one.events_per_s:,.0f} | {fleet.control_planes:,} | "
            f"{fleet.workers:,} | {fleet.shards:,} | {fleet.used['queue, CPU']:.0%} | {_bottleneck(fleet)} | "
            f"{uneven} {found.fullest[uneven]:.0%} | {_back(found.come_back_s)} | {kept.shards:,} |"
        )


def _bottleneck(fleet: Fleet) -> str:
    name = fleet.bottleneck
    return f"{name} ({fleet.used[name]:.0%})" + ("" if fleet.is_enough else ": **too much**")


def _back(seconds: float) -> str:
    return "no other" if math.isinf(seconds) else f"{seconds:.1f} s"


def _figure(value: float) -> str:
    """Two digits that count, which is what the measurement is worth."""
    if value >= 100:
        digits = 2 - len(f"{value:.0f}")
        return f"{round(value, digits):,.0f}"
    return f"{value:.2g}"


def report(costs: Costs) -> str:
    """Return all tables, as they stand in docs/scaling.md."""
    parts = ["\n".join(unit_costs(costs))]
    for title, load, sizes in LADDERS:
        parts.append(f"**{title}**\n\n" + "\n".join(ladder(costs, load, sizes)))
    return "\n\n".join(parts)
