"""What a control plane tells Prometheus: every metric by name, and where its numbers are found.

The numbers are plain attributes of the parts that count; they are read when somebody scrapes, from another thread. What
is found out about the whole deployment is told by each control plane alike, from a look of at most half a minute ago,
and not at all where there is none: take the greatest, never the sum. docs/observability.md has the same list.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from tailplane.broker.exposition import Labels, Row, Table, registry_of, store_rows
from tailplane.control_plane.services import Services
from tailplane.control_plane.survey import Standing
from tailplane.protocol.ids import DEFAULT_TENANT

_WORKFLOW = ("workflow",)
_TENANT = ("tenant",)


def _standing(read: Callable[[Standing], Mapping[Labels, float]]) -> Callable[[Services], Mapping[Labels, float]]:
    """Return what reads the last survey, and gives nothing where there is none."""

    def read_latest(services: Services) -> Mapping[Labels, float]:
        latest = services.survey.latest
        return {} if latest is None else read(latest)

    return read_latest


def _queued(services: Services) -> Mapping[Labels, float]:
    latest, tenants = services.survey.latest, services.counts.tenants
    found: Counter[Labels] = Counter()
    for tenant, count in (latest.queued if latest else {}).items():
        found[tenants[tenant],] += count
    return found


def _readers(services: Services) -> Mapping[Labels, float]:
    tenants = services.counts.tenants
    found: Counter[Labels] = Counter({(DEFAULT_TENANT,): 0})
    for tenant, count in services.streams.by_tenant.items():
        found[tenants[tenant],] += count
    return found


_STORE: list[Row[Services]] = store_rows(
    lambda services: services.broker.queue.wire.connections,
    lambda services: [
        services.hub.outage,
        services.rosters.outage,
        services.doorkeeper.outage,
        services.minder.outage,
        services.parked.outage,
        services.housekeeper.outage,
        services.survey.outage,
        services.scheduler.outage,
        services.tenants.outage,
        services.stored.outage,
        services.turnstile.outage,
    ],
)

ROWS: list[Row[Services]] = [
    Row(
        "tailplane_ready",
        "gauge",
        "Whether the program takes work: it is not about to stop, and Redis answered when it was asked last.",
        lambda services: int(
            not (services.leaving.is_set() or services.drain.is_set() or services.survey.outage.is_on)
        ),
    ),
    Row(
        "tailplane_queue_depth_tasks",
        "gauge",
        "Tasks that wait in a workflow's queue, those that are not due yet or wait for their key included. "
        "Of the deployment.",
        _standing(lambda found: {(name,): backlog.depth for name, backlog in found.backlogs.items()}),
        _WORKFLOW,
    ),
    Row(
        "tailplane_queued_tasks",
        "gauge",
        "The same by tenant, of up to 1,000 queues of others than the default one. Of the deployment.",
        _queued,
        _TENANT,
    ),
    Row(
        "tailplane_queue_oldest_age_seconds",
        "gauge",
        "For how long the first task of a queue that a worker may take has been due, by Redis' clock; 0 where none "
        "is. Of the deployment.",
        _standing(lambda found: {(name,): backlog.oldest_s for name, backlog in found.backlogs.items()}),
        _WORKFLOW,
    ),
    Row(
        "tailplane_workflow_workers",
        "gauge",
        "Workers with a lease that run a workflow. Of the deployment.",
        _standing(lambda found: {(name,): count for name, count in found.workers_of.items()}),
        _WORKFLOW,
    ),
    Row(
        "tailplane_workers",
        "gauge",
        "Workers with a lease. Of the deployment.",
        _standing(lambda found: {(): len(found.workers)}),
    ),
    Row(
        "tailplane_dead_letters",
        "gauge",
        "Failed tasks that nobody has requeued or dropped. Of the deployment.",
        _standing(lambda found: {(): sum(found.dead_letters.values())}),
    ),
    Row(
        "tailplane_survey_age_seconds",
        "gauge",
        "How long ago the figures of the deployment were found.",
        _standing(lambda found: {(): found.age}),
    ),
    Row(
        "tailplane_workers_lost_total",
        "counter",
        "Workers whose lease had run out and whose tasks this control plane gave back.",
        lambda services: services.minder.lost,
    ),
    Row(
        "tailplane_tasks_given_back_total",
        "counter",
        "Tasks that it gave back for them.",
        lambda services: services.minder.given_back,
    ),
    Row(
        "tailplane_tasks_ended_late_total",
        "counter",
        "Queued tasks that this control plane ended because their time had passed and no worker came.",
        lambda services: services.housekeeper.ended,
    ),
    Row(
        "tailplane_schedule_due_times_total",
        "counter",
        "Due times of schedules that this control plane fired, that were missed (too late, or not the latest), or that "
        "were skipped because the run before had not ended.",
        lambda services: {
            ("fired",): services.counts.fired,
            ("missed",): services.counts.missed,
            ("skipped",): services.counts.skipped,
        },
        ("outcome",),
    ),
    Row(
        "tailplane_tasks_submitted_total",
        "counter",
        "Tasks that were queued.",
        lambda services: dict(services.counts.submitted),
        ("workflow", "tenant"),
    ),
    Row(
        "tailplane_tasks_refused_total",
        "counter",
        "Submits that a limit refused with 429, by the code of the answer.",
        lambda services: dict(services.counts.refused),
        ("workflow", "tenant", "reason"),
    ),
    Row(
        "tailplane_readers_refused_total",
        "counter",
        "Streams that were not opened because their tenant, or their API key, reads as many as it may.",
        lambda services: dict(services.counts.readers_refused),
        _TENANT,
    ),
    Row(
        "tailplane_http_requests_total",
        "counter",
        "Requests, by the route's template; `none` is a path that there is not.",
        lambda services: dict(services.counts.requests),
        ("method", "route", "status"),
    ),
    Row(
        "tailplane_http_request_seconds",
        "histogram",
        "From a request's arrival until its response begins; waiting for a result is part of it.",
        lambda services: dict(services.counts.request_seconds),
        ("route",),
    ),
    Row("tailplane_readers", "gauge", "Responses that stream now.", _readers, _TENANT),
    Row(
        "tailplane_streams_tailed",
        "gauge",
        "Streams that somebody reads through this control plane.",
        lambda services: services.hub.feed_count,
    ),
    Row(
        "tailplane_window_bytes",
        "gauge",
        "Bytes of entries that are kept for readers.",
        lambda services: services.hub.window_bytes,
    ),
    Row(
        "tailplane_stream_entries_total",
        "counter",
        "Entries that came while somebody read their stream; once, however many read it.",
        lambda services: services.counts.entries,
    ),
    Row(
        "tailplane_stream_bytes_total",
        "counter",
        "Bytes of those entries.",
        lambda services: services.counts.entry_bytes,
    ),
    Row(
        "tailplane_arrival_lag_seconds",
        "histogram",
        "Of one in eight of those entries, from the writing of its first event until it was here: by the worker's wall "
        "clock and the control plane's, so that their difference is part of it.",
        lambda services: services.counts.arrival,
    ),
    Row(
        "tailplane_handover_seconds",
        "histogram",
        "Of the same, from the arrival until all readers that waited were served: written to their connection's "
        "transport, or, of slow ones, left to their own task. By the monotonic clock.",
        lambda services: services.counts.handover,
    ),
    Row(
        "tailplane_streams_ended_total",
        "counter",
        "Streaming responses that ended: with the stream (end), because the client left, because this control plane "
        "drains, because the caller's credential ended (cut), or because the stream was removed (gone).",
        lambda services: dict(services.counts.ended),
        ("why",),
    ),
    Row(
        "tailplane_connections_ended_total",
        "counter",
        "Connections that this control plane ended by itself: there were too many, a head or body was too large, "
        "malformed or too slow, or nobody read an answer.",
        lambda services: dict(services.counts.turned_away),
        ("reason",),
    ),
    Row(
        "tailplane_gaps_total",
        "counter",
        "Times that a reader was told that events are gone which it has not seen.",
        lambda services: services.counts.gaps,
    ),
    Row(
        "tailplane_slow_reader_waits_total",
        "counter",
        "Times that a stream waited for a client that did not read.",
        lambda services: services.counts.slow,
    ),
    *_STORE,
]


def registry(app: FastAPI) -> CollectorRegistry:
    """Return the metrics of an application: those of its services are there once it has begun."""
    return registry_of("control-plane", Table(ROWS, lambda: app.state.services))
