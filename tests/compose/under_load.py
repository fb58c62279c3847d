"""Puts the load of chaos on the cluster while something is done to it, and checks every task."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from tailplane.protocol.events import PlatformType
from tests.chaos import logs
from tests.chaos.attempts import divide
from tests.chaos.checks import Violation, violations
from tests.chaos.load import Load, complete, open_clients
from tests.chaos.orders import orders
from tests.compose.cluster import Cluster

# Seconds: until tasks of all kinds run; from the end of what was done until every task must have ended.
_WARM = 4.0
_SETTLE = 150.0
_AT_ONCE = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load came to.

    Attributes:
        tasks: how many there were.
        events: of all their streams.
        attempts: of all tasks; more than tasks where some were taken over, or raised as they were meant to.
        taken_over: how many attempts were taken from a worker that was lost.
        broken: promises that were not kept.
    """

    tasks: int
    events: int
    attempts: int
    taken_over: int
    broken: list[Violation]


async def under_load(
    cluster: Cluster, *, seed: int, tasks: int, seconds: float, disturb: Callable[[], None]
) -> Outcome:
    """Begin `tasks` tasks within `seconds`, call `disturb` in a thread meanwhile, and return what came of it.

    Args:
        seed: of its own in each call: one that this cluster knows names tasks that have ended.
        disturb: leaves the cluster whole.
    """
    began = time.time()
    async with open_clients(cluster.url) as clients:
        load = Load(clients)
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(load.run(orders(seed, tasks), seconds, _AT_ONCE))
            await asyncio.sleep(_WARM)
            await asyncio.to_thread(disturb)
            await asyncio.wait({loading}, timeout=seconds + _SETTLE)
            load.give_up()
    async with open_clients(cluster.url) as fresh:
        await complete(fresh, load.histories, cluster.ledger)
    attempts = [attempt for history in load.histories for attempt in divide(history.again)[0]]
    assert all(history.again[0].time >= began for history in load.histories if history.again), "tasks of another load"
    said = logs.violations(await asyncio.to_thread(cluster.write_logs))
    outcome = Outcome(
        tasks=len(load.histories),
        events=sum(len(history.again) for history in load.histories),
        attempts=len(attempts),
        taken_over=sum(attempt.ended_by == PlatformType.WORKER_LOST for attempt in attempts),
        broken=[*(broken for history in load.histories for broken in violations(history)), *said],
    )
    counts = f"{outcome.events:,} events, {outcome.attempts} attempts, {outcome.taken_over} taken over"
    print(f"{outcome.tasks} tasks, {counts}")
    return outcome
