"""Percentiles and medians of latencies."""

import pytest

from benchmarks.percentiles import median, percentile, spread_ms


def test_a_percentile_lies_between_its_neighbours():
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([1.0, 2.0, 3.0], 0.75) == 2.5


def test_the_ends_are_the_least_and_the_most():
    assert percentile([3.0, 1.0, 2.0], 0.0) == 1.0
    assert percentile([3.0, 1.0, 2.0], 1.0) == 3.0


def test_one_value_is_every_percentile():
    assert percentile([7.0], 0.99) == median([7.0]) == 7.0


def test_no_values_have_no_percentile():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_spread_is_in_milliseconds():
    assert spread_ms([0.001, 0.003], "steady_") == {
        "steady_p50_ms": 2.0,
        "steady_p99_ms": pytest.approx(2.98),
        "steady_max_ms": 3.0,
    }


def test_without_latencies_there_is_no_spread():
    assert spread_ms([]) == {}
