"""What a control plane tells Prometheus: every metric by name, and where its numbers are found.

The numbers are plain attributes of the parts that count; they are read when somebody scrapes, from another thread.
"""

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from tailplane.broker.exposition import Row, Table, registry_of
from tailplane.control_plane.services import Services

ROWS: list[Row[Services]] = [
    Row(
        "tailplane_streams_tailed",
        "gauge",
        "Streams that somebody reads through this control plane.",
        lambda services: services.hub.feed_count,
    ),
]


def registry(app: FastAPI) -> CollectorRegistry:
    """Return the metrics of an application: those of its services are there once it has begun."""
    return registry_of("control-plane", Table(ROWS, lambda: app.state.services))
