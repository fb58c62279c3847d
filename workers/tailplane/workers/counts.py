"""What a worker counts of its attempts and of what they write. Plain numbers, changed on the platform's loop.

What hot paths count is a few additions for each flush, none for an event; Prometheus' own counters take a lock each.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta

from tailplane.broker import Append
from tailplane.broker.histogram import Histogram
from tailplane.broker.tenant_labels import TenantLabels
from tailplane.protocol.events import first_time
from tailplane.protocol.ids import DEFAULT_TENANT
from tailplane.protocol.states import Trigger

_OUTCOMES = {
    Trigger.SUCCEED: "succeeded",
    Trigger.FAIL: "failed",
    Trigger.CANCEL: "cancelled",
    Trigger.RETRY: "retried",
    Trigger.HAND_BACK: "handed_back",
    Trigger.WAIT: "parked",
}
LOST = "lost"

# Seconds.
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600)
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304)


class Written:
    """What the writer has sent.

    Attributes:
        tenants: what tenants are counted under.
        events, bytes: of workflows, that Redis has taken.
        events_of, bytes_of: the same, by tenant.
        entries: that the writer has appended; what comes with an attempt's end is in the entry that ends it.
        fenced: entries that it refused because another attempt holds the task.
        flush_events, flush_bytes, flush_seconds: of each flush; seconds from its sending to Redis' reply.
        lag: of each flush's first entry, seconds from the writing of its first event to Redis' reply, by this machine's
            wall clock.
    """

    def __init__(self, tenants: TenantLabels | None = None) -> None:
        self.tenants = tenants or TenantLabels()
        self.events_of: Counter[tuple[str, ...]] = Counter({(DEFAULT_TENANT,): 0})
        self.bytes_of: Counter[tuple[str, ...]] = Counter({(DEFAULT_TENANT,): 0})
        # By the tenants' own names: those that have written since it was told last.
        self._untold: Counter[str] = Counter()
        self.events = self.bytes = self.entries = self.fenced = 0
        self.flush_events = Histogram(_SIZES)
        self.flush_bytes = Histogram(_BYTES)
        self.flush_seconds = Histogram(_FAST)
        self.lag = Histogram(_FAST)

    def note_flush(self, taken: Sequence[Append], seconds: float) -> None:
        """Count a flush that was answered, of which Redis has taken these."""
        if not taken:
            return
        events, size = self.events, self.bytes
        self.note_taken(taken)
        self.flush_events.observe(self.events - events)
        self.flush_bytes.observe(self.bytes - size)
        self.flush_seconds.observe(seconds)
        written = first_time(taken[0].payload)
        if written is not None:
            self.lag.observe(max(0.0, time.time() - written))

    def note_rest(self, tenant: str, packed: Sequence[bytes]) -> None:
        """Count events that came with the end of their attempt."""
        self._add(tenant, len(packed), sum(map(len, packed)))

    def note_stored(self, tenant: str, count: int) -> None:
        """Count bytes that a tenant has put into Redis beside events."""
        self._untold[tenant] += count

    def take_untold(self) -> dict[str, int]:
        """Return how many bytes each tenant has put into Redis since the last time."""
        told, self._untold = self._untold, Counter()
        return {tenant: count for tenant, count in told.items() if count}

    def note_taken(self, appends: Sequence[Append]) -> None:
        """Count entries that Redis has taken."""
        tenant, events, size = "", 0, 0
        for append in appends:
            payload, its = append.payload, append.task.tenant
            # Mostly that of the entry before: one look at the counters for all of them.
            if its != tenant:
                self._add(tenant, events, size)
                tenant, events, size = its, 0, 0
            if append.fields:
                self._untold[tenant] += sum(map(len, append.fields))
            size += len(payload)
            # Mostly a short array, whose length is in its first byte: a call would cost more than all the rest.
            events += payload[0] - 0x90 if payload[0] < 0xA0 else append.id.seq - append.after
        self.entries += len(appends)
        self._add(tenant, events, size)

    def _add(self, tenant: str, events: int, size: int) -> None:
        if events:
            label = (self.tenants[tenant],)
            self.events_of[label] += events
            self.bytes_of[label] += size
            self._untold[tenant] += size
            self.events += events
            self.bytes += size


class Counts:
    """What the attempts of a worker come to. By workflow, of those that it runs; the first three by tenant, too.

    Attributes:
        claims: tasks taken out of the queue.
        outcomes: attempts that have ended, by workflow, outcome and tenant.
        dead_letters: tasks that failed.
        waits: how long each was due by then, in seconds, by Redis' clock.
        rewinds: attempts that superseded what an earlier one wrote.
        first_events: seconds from the task's recording to Redis' reply that it has the first event of its first
            attempt. Up to the attempt's beginning by Redis' clock, from there by this process' monotonic one.
        durations: seconds from an attempt's beginning until its end was recorded, or it was lost.
        refused: claims that came to nothing, since the task had ended or was delivered twice.
        full: writes that raised BufferFull.
    """

    def __init__(self, workflows: Iterable[str] = (), tenants: TenantLabels | None = None) -> None:
        self._names = tuple(workflows)
        self._tenants = tenants or TenantLabels()
        self.claims: Counter[tuple[str, ...]] = Counter(self._zeros(DEFAULT_TENANT))
        self.outcomes: Counter[tuple[str, ...]] = Counter(
            {(name, outcome, DEFAULT_TENANT): 0 for name in self._names for outcome in (*_OUTCOMES.values(), LOST)}
        )
        self.rewinds: Counter[tuple[str, ...]] = Counter(self._zeros())
        self.dead_letters: Counter[tuple[str, ...]] = Counter(self._zeros(DEFAULT_TENANT))
        self.refused: Counter[tuple[str, ...]] = Counter(self._zeros())
        self.waits = self._histograms()
        self.first_events = self._histograms()
        self.durations = self._histograms()
        self.full = 0
        self._lock = threading.Lock()

    def _zeros(self, *others: str) -> dict[tuple[str, ...], int]:
        # A counter that is not there before it first moves has no rate then.
        return {(name, *others): 0 for name in self._names}

    def _histograms(self) -> dict[tuple[str, ...], Histogram]:
        return {(name,): Histogram(_SLOW) for name in self._names}

    def note_claim(self, workflow: str, tenant: str, waited: timedelta) -> None:
        """Count a task that was taken out of the queue."""
        self.claims[workflow, self._tenants[tenant]] += 1
        self._observe(self.waits, workflow, waited.total_seconds())

    def note_begun(self, workflow: str, attempt: int) -> None:
        """Count an attempt that has begun."""
        if attempt > 1:
            self.rewinds[workflow,] += 1

    def note_first_event(self, workflow: str, seconds: float) -> None:
        """Count a first event."""
        self._observe(self.first_events, workflow, seconds)

    def note_ended(self, workflow: str, tenant: str, trigger: Trigger | None, seconds: float) -> None:
        """Count an attempt that has ended; `trigger` is None where its task was lost."""
        self.outcomes[workflow, LOST if trigger is None else _OUTCOMES[trigger], self._tenants[tenant]] += 1
        self._observe(self.durations, workflow, seconds)

    def note_failed(self, workflow: str, tenant: str) -> None:
        """Count a task that has failed."""
        self.dead_letters[workflow, self._tenants[tenant]] += 1

    def note_full(self) -> None:
        """Count a write that raised BufferFull. From any thread: they meet here seldom, and raise an error anyway."""
        with self._lock:
            self.full += 1

    def _observe(self, histograms: dict[tuple[str, ...], Histogram], workflow: str, value: float) -> None:
        histogram = histograms.get((workflow,))
        if histogram is None:
            histogram = histograms[workflow,] = Histogram(_SLOW)
        histogram.observe(value)
