"""A table of metrics becomes what Prometheus reads."""

from dataclasses import dataclass, field

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older_families

from tailplane.broker.exposition import Row, Table, expose, registry_of
from tailplane.broker.histogram import Histogram

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass
class Numbers:
    done: int = 0
    by_workflow: dict[tuple[str, ...], int] = field(default_factory=dict)
    seconds: Histogram = field(default_factory=lambda: Histogram((0.1, 1)))


ROWS: list[Row[Numbers]] = [
    Row("done_total", "counter", "Done.", lambda numbers: numbers.done),
    Row("waiting", "gauge", "Waiting.", lambda numbers: dict(numbers.by_workflow), ("workflow",)),
    Row("took_seconds", "histogram", "Took.", lambda numbers: numbers.seconds),
]


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_numbers_are_read_when_somebody_asks() -> None:
    numbers = Numbers()
    registry = registry_of("worker", Table(ROWS, lambda: numbers))
    numbers.done = 3
    numbers.by_workflow['a b\n"c\\',] = 2
    numbers.seconds.observe(0.1)
    numbers.seconds.observe(0.5)
    numbers.seconds.observe(7)
    body, media_type = expose(registry, OPENMETRICS)
    found = samples(body.decode())
    assert media_type.startswith("application/openmetrics-text")
    assert found["done_total", ""] == 3
    assert found["waiting", 'a b\n"c\\'] == 2
    assert [found["took_seconds_bucket", bound] for bound in ("0.1", "1.0", "+Inf")] == [1, 2, 3]
    assert found["took_seconds_sum", ""] == pytest.approx(7.6)
    assert found["tailplane_build_info", "worker"] == 1
    assert found["process_open_fds", ""] > 0


def test_who_knows_no_openmetrics_gets_the_older_text() -> None:
    body, media_type = expose(registry_of("worker", Table(ROWS, Numbers)), "text/plain")
    assert media_type.startswith("text/plain")
    assert "done" in {family.name for family in older_families(body.decode())}


def test_a_program_that_has_no_numbers_yet_tells_the_rest() -> None:
    body, _ = expose(registry_of("worker", Table(ROWS, lambda: None)), OPENMETRICS)
    found = samples(body.decode())
    assert ("done_total", "") not in found
    assert ("tailplane_build_info", "worker") in found


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="done"):
        registry_of("worker", Table(ROWS, Numbers), Table(ROWS, Numbers))
