"""The capacity model: what it asks of each kind of process."""

from dataclasses import fields, replace

import pytest

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.model import Limits, Load, hearing, size, use
from benchmarks.capacity.simulation import simulate

# A microsecond, a byte or a connection each: sums can be done in one's head.
ONES = Costs(**{field.name: 1.0 for field in fields(Costs)})
FREE = Costs(**{field.name: 0.0 for field in fields(Costs)})
LOAD = Load(tasks=1000, rate=10, seconds=10, readers=2, retention=100)


def test_one_reader_is_heard_by_one_control_plane_and_many_by_all() -> None:
    assert hearing(1, 10) == pytest.approx(1)
    assert hearing(1000, 10) == pytest.approx(10)
    assert hearing(2, 10) == pytest.approx(1.9)


def test_a_fleet_is_as_large_as_its_load_asks_for() -> None:
    # 100 tasks a second and 10,000 events: a core gives 1,000 us a second here.
    costs = replace(FREE, worker_task=2, worker_entry=3)
    fleet = size(LOAD, costs, Limits(share=0.001))

    assert fleet.workers == 31  # 30,200 us
    assert (fleet.control_planes, fleet.shards) == (1, 1)
    assert fleet.used["workers, CPU"] == pytest.approx(30_200 / 31_000)


def test_memory_counts_where_time_does_not() -> None:
    costs = replace(FREE, shard_task_bytes=1000, shard_entry_bytes=10)
    fleet = size(LOAD, costs, Limits(shard_bytes=1_000_000))

    # 1,000 running ones of 1,500 bytes, and 10,000 kept ones of 2,000.
    assert fleet.shards == 22
    assert fleet.bottleneck == "shards, memory"


def test_a_queue_that_is_too_slow_is_named_whatever_the_fleet() -> None:
    costs = replace(FREE, queue_task=1)
    fleet = size(LOAD, costs, Limits(share=0.00005))

    assert fleet.bottleneck == "queue, CPU"
    assert not fleet.is_enough


def test_more_control_planes_hear_more_of_a_stream_with_many_readers() -> None:
    load = replace(LOAD, readers=100.0)
    few, many = (use(load, ONES, Limits(), count, 1, 1).used["shards, CPU"] for count in (1, 50))

    assert many > few * 5


def test_a_fleet_of_the_model_is_enough_by_the_model() -> None:
    for tasks in (1, 100, 10_000):
        fleet = size(replace(LOAD, tasks=tasks), ONES, Limits(share=0.1))
        assert fleet.is_enough, fleet


def test_the_fullest_process_is_never_emptier_than_the_mean() -> None:
    fleet = size(LOAD, ONES, Limits(share=0.005))
    found = simulate(LOAD, ONES, Limits(share=0.005), fleet)

    assert found.fullest["workers"] >= fleet.used["workers, CPU"] * 0.9
    assert found.fullest["workers"] < fleet.used["workers, CPU"] * 3
    assert found == simulate(LOAD, ONES, Limits(share=0.005), fleet)


def test_readers_of_the_only_control_plane_have_nowhere_to_go() -> None:
    fleet = size(replace(LOAD, tasks=1), ONES, Limits())

    assert simulate(replace(LOAD, tasks=1), ONES, Limits(), fleet).come_back_s == float("inf")
