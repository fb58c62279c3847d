"""What a worker tells Prometheus: every metric by name, and where its numbers are found.

The numbers are plain attributes of the parts that count; they are read when somebody scrapes, from another thread.
"""

from prometheus_client import CollectorRegistry

from tailplane.broker.exposition import Row, Table, registry_of
from tailplane.workers.watchdog import Watchdog

ROWS: list[Row[Watchdog]] = [
    Row(
        "tailplane_loop_blocked_seconds_total",
        "counter",
        "How long workflows have blocked the loop that they share, in all.",
        lambda watchdog: watchdog.blocked_seconds,
    ),
]


def registry(watchdog: Watchdog) -> CollectorRegistry:
    """Return the metrics of a worker."""
    return registry_of("worker", Table(ROWS, lambda: watchdog))
