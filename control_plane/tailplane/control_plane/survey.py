"""How the deployment stands: its queues, its workers, its dead letters. For metrics, and for whoever asks by HTTP.

One look is some commands for each workflow and each worker, in four round trips; it is shared by all who ask within a
second, and nobody who scrapes ever waits for one.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tailplane.broker import Backlog, Broker, Outage, WorkerRecord, tenant_of, workflow_of
from tailplane.control_plane.periodic import repeat
from tailplane.protocol.ids import WorkerId

# Seconds for which a look is believed by who asks, and for which the metrics show it when no newer one succeeds.
FRESH = 1.0
STALE = 30.0
EVERY = timedelta(seconds=5)
# Workflows that are looked at; beyond them a deployment's queues are not told apart in metrics.
MOST_WORKFLOWS = 1000
# Queues of tenants other than the default one, and tenants: what lies beyond is not counted.
MOST_QUEUES = 1000
MOST_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What one look has found.

    Attributes:
        backlogs: by workflow, of all that workers have registered: what waits there of all tenants.
        workers: those that hold a lease.
        dead_letters: by tenant, failed tasks that nobody has requeued or dropped.
        queued: tasks that wait, by tenant.
        running_on: tasks that each of those workers runs, by tenant.
        at: when, by the monotonic clock.
    """

    backlogs: Mapping[str, Backlog]
    workers: list[WorkerRecord]
    dead_letters: Mapping[str, int]
    queued: Mapping[str, int]
    running_on: Mapping[WorkerId, Counter[str]]
    at: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> Counter[str]:
        """Return how many tasks those workers run, by tenant."""
        return sum(self.running_on.values(), Counter[str]())

    @property
    def workers_of(self) -> dict[str, int]:
        """Return how many workers run each workflow."""
        found = dict.fromkeys(self.backlogs, 0)
        for worker in self.workers:
            for name in worker.workflows:
                if name in found:
                    found[name] += 1
        return found

    @property
    def age(self) -> float:
        """How many seconds ago it was found."""
        return time.monotonic() - self.at


class Survey:
    """Looks at the deployment.

    Attributes:
        outage: whether Redis can't be asked.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._last: Standing | None = None
        self._looking: asyncio.Task[Standing] | None = None
        self.outage = Outage("the survey")

    @property
    def latest(self) -> Standing | None:
        """What was found last; None where that is too long ago. Thread-safe."""
        last = self._last
        return None if last is None or last.age > STALE else last

    async def run(self) -> None:
        """Look once in a while until cancelled."""
        await repeat(self.standing, EVERY, self.outage)

    async def standing(self) -> Standing:
        """Return how the deployment stands, a second ago at the most.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        if self._last is not None and self._last.age <= FRESH:
            return self._last
        if self._looking is None:
            # A task of its own: who came first may go while others wait, and a failure is that of all who wait.
            self._looking = asyncio.ensure_future(self._look())
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking)

    def _looked(self, looking: asyncio.Task[Standing]) -> None:
        self._looking = None
        if not looking.cancelled() and looking.exception() is None:
            self._last = looking.result()

    async def _look(self) -> Standing:
        broker, queue = self._broker, self._broker.queue
        names = list(await queue.workflows())[:MOST_WORKFLOWS]
        known = set(names)
        of_tenants = [name for name in await queue.queues(MOST_QUEUES) if workflow_of(name) in known]
        backlogs = await queue.backlogs([*names, *of_tenants])
        queued: Counter[str] = Counter()
        for name, backlog in backlogs.items():
            queued[tenant_of(name)] += backlog.depth
        for name in of_tenants:
            backlogs[workflow_of(name)] = _together(backlogs[workflow_of(name)], backlogs.pop(name))
        tenants = (await broker.tenants.names())[:MOST_TENANTS]
        workers = await queue.workers()
        return Standing(
            backlogs=backlogs,
            queued=queued,
            workers=workers,
            running_on=await broker.usage.running([worker.worker_id for worker in workers]),
            dead_letters=await broker.catalogue.dead_letter_counts(tenants),
        )


def _together(one: Backlog, other: Backlog) -> Backlog:
    return Backlog(one.depth + other.depth, max(one.oldest_s, other.oldest_s))
