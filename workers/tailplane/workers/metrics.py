"""What a worker tells Prometheus: every metric by name, and where its numbers are found.

The numbers are plain attributes of the parts that count; they are read when somebody scrapes, from another thread. What
a metric means in full is said where it is counted. docs/observability.md has the same list.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from tailplane.broker.exposition import Labels, Row, Table, registry_of, store_rows
from tailplane.protocol.ids import DEFAULT_TENANT
from tailplane.workers.parts import Parts

_WORKFLOW = ("workflow",)
_TENANT = ("tenant",)
_BOTH = ("workflow", "tenant")


def _held(parts: Parts) -> Mapping[Labels, float]:
    tenants = parts.writer.written.tenants
    found: Counter[Labels] = Counter({(DEFAULT_TENANT,): 0})
    for task in parts.attempts.tasks:
        found[tenants[task.tenant],] += 1
    return found


_STORE: list[Row[Parts]] = store_rows(
    lambda parts: parts.broker.queue.wire.connections,
    lambda parts: [parts.lease.outage, parts.writer.outage, parts.queue.outage, parts.telling],
)

ROWS: list[Row[Parts]] = [
    Row(
        "tailplane_ready",
        "gauge",
        "Whether the program takes work, as /readyz says.",
        lambda parts: int(parts.vitals.ready().is_good),
    ),
    Row(
        "tailplane_task_slots",
        "gauge",
        "Tasks that this worker runs at once, at the most.",
        lambda parts: parts.queue.max_jobs,
    ),
    Row(
        "tailplane_running_tasks",
        "gauge",
        "Slots that are taken: by tasks that run, and by code that did not end when its task did.",
        lambda parts: {(name,): count for name, count in dict(parts.queue.busy).items()},
        _WORKFLOW,
    ),
    Row(
        "tailplane_held_tasks",
        "gauge",
        "Tasks that this worker holds and that have not ended.",
        _held,
        _TENANT,
    ),
    Row(
        "tailplane_claims_total",
        "counter",
        "Tasks that this worker took out of the queue.",
        lambda parts: dict(parts.counts.claims),
        _BOTH,
    ),
    Row(
        "tailplane_claims_refused_total",
        "counter",
        "Claims that came to nothing: the task had ended, was too late, or was delivered twice.",
        lambda parts: dict(parts.counts.refused),
        _WORKFLOW,
    ),
    Row(
        "tailplane_queue_wait_seconds",
        "histogram",
        "From when a task was due to its claim, by Redis' clock.",
        lambda parts: dict(parts.counts.waits),
        _WORKFLOW,
    ),
    Row(
        "tailplane_attempts_total",
        "counter",
        "Attempts that have ended: succeeded, failed, cancelled, retried (another one follows), handed_back, parked, "
        "or lost to another worker.",
        lambda parts: dict(parts.counts.outcomes),
        ("workflow", "outcome", "tenant"),
    ),
    Row(
        "tailplane_attempt_seconds",
        "histogram",
        "From an attempt's beginning until its end was recorded, or it was lost; by the worker's monotonic clock.",
        lambda parts: dict(parts.counts.durations),
        _WORKFLOW,
    ),
    Row(
        "tailplane_first_event_seconds",
        "histogram",
        "From a task's recording until Redis had the first event of its workflow, of first attempts; to the attempt's "
        "beginning by Redis' clock, from there by the worker's monotonic one.",
        lambda parts: dict(parts.counts.first_events),
        _WORKFLOW,
    ),
    Row(
        "tailplane_rewinds_total",
        "counter",
        "Attempts that began after another one of their task, and superseded what that had written.",
        lambda parts: dict(parts.counts.rewinds),
        _WORKFLOW,
    ),
    Row(
        "tailplane_tasks_failed_total",
        "counter",
        "Tasks that this worker ended as failed; each becomes a dead letter.",
        lambda parts: dict(parts.counts.dead_letters),
        _BOTH,
    ),
    Row(
        "tailplane_events_total",
        "counter",
        "Events of workflows that Redis has taken.",
        lambda parts: dict(parts.writer.written.events_of),
        _TENANT,
    ),
    Row(
        "tailplane_event_bytes_total",
        "counter",
        "Bytes of those events, as packed; entries add a few.",
        lambda parts: dict(parts.writer.written.bytes_of),
        _TENANT,
    ),
    Row(
        "tailplane_entries_total",
        "counter",
        "Stream entries that events were packed into, but the one that ends an attempt.",
        lambda parts: parts.writer.written.entries,
    ),
    Row(
        "tailplane_append_lag_seconds",
        "histogram",
        "Of each flush's first entry, from the writing of its first event until Redis said that it has it; both by the "
        "worker's wall clock.",
        lambda parts: parts.writer.written.lag,
    ),
    Row("tailplane_flush_events", "histogram", "Events in a flush.", lambda parts: parts.writer.written.flush_events),
    Row(
        "tailplane_flush_bytes",
        "histogram",
        "Bytes of payload in a flush.",
        lambda parts: parts.writer.written.flush_bytes,
    ),
    Row(
        "tailplane_flush_seconds",
        "histogram",
        "From the sending of a flush until Redis answered, an outage in between included.",
        lambda parts: parts.writer.written.flush_seconds,
    ),
    Row(
        "tailplane_unsent_bytes",
        "gauge",
        "Bytes of events that workflows wrote and Redis has not taken yet.",
        lambda parts: parts.attempts.unsent_bytes,
    ),
    Row(
        "tailplane_buffer_full_total",
        "counter",
        "Writes that raised BufferFull.",
        lambda parts: parts.counts.full,
    ),
    Row(
        "tailplane_fenced_writes_total",
        "counter",
        "Entries that Redis refused because another attempt holds the task.",
        lambda parts: parts.writer.written.fenced,
    ),
    Row(
        "tailplane_repaired_entries_total",
        "counter",
        "Entries sent again because the store had lost them in a failover.",
        lambda parts: parts.kept.repaired,
    ),
    Row(
        "tailplane_events_lost_total",
        "counter",
        "Events that the store lost and the worker had no more; their tasks failed.",
        lambda parts: parts.kept.lost,
    ),
    Row(
        "tailplane_lease_left_seconds",
        "gauge",
        "How long the worker's lease lasts unless it is renewed; 0 where it may have run out.",
        lambda parts: parts.lease.left,
    ),
    Row("tailplane_lease_renewals_total", "counter", "Renewals of the lease.", lambda parts: parts.lease.renewals),
    Row(
        "tailplane_lease_renewals_late_total",
        "counter",
        "Renewals that came more than twice the set interval after the one before.",
        lambda parts: parts.lease.late,
    ),
    Row(
        "tailplane_leases_lost_total",
        "counter",
        "Times that the lease had run out and the worker was struck off; what it ran is lost.",
        lambda parts: parts.lease.losses,
    ),
    Row(
        "tailplane_loop_blocks_total",
        "counter",
        "Times that a workflow blocked the loop that all workflows of this process share.",
        lambda parts: parts.watchdog.blocks,
    ),
    Row(
        "tailplane_loop_blocked_seconds_total",
        "counter",
        "How long they blocked it, in all.",
        lambda parts: parts.watchdog.blocked_seconds,
    ),
    Row(
        "tailplane_platform_loop_late_seconds",
        "gauge",
        "For how long the loop that talks to Redis has not turned.",
        lambda parts: parts.vitals.pulse.late,
    ),
    *_STORE,
]


def registry(find: Callable[[], Parts | None]) -> CollectorRegistry:
    """Return the metrics of a worker whose parts `find` returns; None: it has none yet."""
    return registry_of("worker", Table(ROWS, find))
