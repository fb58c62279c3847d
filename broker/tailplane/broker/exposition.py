"""Metrics as Prometheus reads them: a table of what a program tells, made into text when somebody asks.

Nothing is counted here: the programs keep plain numbers, and the table says where each one is found. Importing this
takes a fifth of a second, so that only a program with a `metrics_port` does it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Generic, Literal, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tailplane.broker.histogram import Histogram
from tailplane.broker.outage import Outage

S = TypeVar("S")
Labels = tuple[str, ...]
Number = float | int
Kind = Literal["counter", "gauge", "histogram"]


class Row(NamedTuple, Generic[S]):
    """One metric of a program whose numbers are found in an `S`.

    Attributes:
        name: with its unit; that of a counter ends in `_total`.
        help: one sentence; with it the metric is documented.
        labels: their values come from a bounded set.
        read: returns a number, a histogram, or one of them for each value of the labels. Called from another thread
            than the one that counts.
    """

    name: str
    kind: Kind
    help: str
    read: "Callable[[S], Number | Histogram | Mapping[Labels, Number | Histogram]]"
    labels: Labels = ()


class Table(Collector, Generic[S]):
    """The metrics of one program.

    Args:
        find: returns where the numbers are; None: nowhere yet.
    """

    def __init__(self, rows: Sequence[Row[S]], find: Callable[[], S | None]) -> None:
        self._rows = rows
        self._find = find

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand."""
        source = self._find()
        if source is None:
            return
        for row in self._rows:
            found = row.read(source)
            yield _family(row, found.items() if isinstance(found, Mapping) else [((), found)])

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without a value, so that two of one name are refused at once."""
        return [_family(row, ()) for row in self._rows]


def _family(row: Row[S], found: Iterable[tuple[Labels, Number | Histogram]]) -> Metric:
    match row.kind:
        case "counter":
            counter = CounterMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in found:
                assert not isinstance(value, Histogram)
                counter.add_metric(labels, value)
            return counter
        case "gauge":
            gauge = GaugeMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in found:
                assert not isinstance(value, Histogram)
                gauge.add_metric(labels, value)
            return gauge
        case "histogram":
            histogram = HistogramMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in found:
                assert isinstance(value, Histogram)
                buckets, total = value.cumulated()
                histogram.add_metric(labels, buckets=buckets, sum_value=total)
            return histogram


def store_rows(connections: Callable[[S], int], outages: Callable[[S], Sequence[Outage]]) -> list[Row[S]]:
    """Return what both programs tell of Redis."""
    return [
        Row(
            "tailplane_store_connections_total",
            "counter",
            "Connections made to Redis for commands; each one after the first follows a lost one.",
            connections,
        ),
        Row(
            "tailplane_store_outages_total",
            "counter",
            "Times that Redis went away, by what did not happen meanwhile.",
            lambda source: {(outage.what,): outage.count for outage in outages(source)},
            ("what",),
        ),
        Row(
            "tailplane_store_away",
            "gauge",
            "Whether Redis is away now, by what does not happen meanwhile.",
            lambda source: {(outage.what,): int(outage.is_on) for outage in outages(source)},
            ("what",),
        ),
    ]


class _Build(Collector):
    def __init__(self, program: str) -> None:
        self._program = program

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "tailplane_build_info", "Always 1; says what runs here.", labels=("program", "version")
        )
        info.add_metric((self._program, version("tailplane")), 1)
        yield info


def registry_of(program: str, *tables: Table[S]) -> CollectorRegistry:
    """Return a registry of a program's own metrics, and of the interpreter's and the process' usual ones."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(_Build(program))
    for table in tables:
        registry.register(table)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def expose(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return all metrics and their content type: OpenMetrics where `Accept` asks for it, else the older text."""
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
