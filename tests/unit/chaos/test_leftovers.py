"""What a chaos run leaves behind in Redis is judged."""

import pytest

from tests.chaos.history import Leftover
from tests.chaos.leftovers import unqueued, violations

HOUR_MS = 3600 * 1000
TIDY = [
    Leftover("tailplane:{queue}:workers", "zset", -1, ("w1", "w2")),
    Leftover("tailplane:{queue}:workflows", "hash", -1),
    Leftover("tailplane:{queue}:tasks:default", "zset", -1, ("t1", "t2")),
    Leftover("tailplane:{queue}:worker:w1", "hash", 23 * HOUR_MS),
    Leftover("tailplane:{queue}:bell:slow", "list", 50_000),
    Leftover("tailplane:default:task:{t1}", "hash", 23 * HOUR_MS),
    Leftover("tailplane:default:stream:{t1}", "stream", 23 * HOUR_MS),
]


def _rules(*more: Leftover) -> list[str]:
    return [violation.rule for violation in violations([*TIDY, *more], {"t1", "t2"}, 2)]


def test_what_may_stay_is_no_violation() -> None:
    assert _rules() == []


def test_a_key_without_a_ttl_is_noticed() -> None:
    assert _rules(Leftover("tailplane:default:stream:{t2}", "stream", -1)) == ["no key lacks a TTL"]
    assert _rules(Leftover("tailplane:{queue}:something", "string", -1)) == ["no key lacks a TTL"]


@pytest.mark.parametrize("key", ["tailplane:{queue}:due:slow", "tailplane:{queue}:running:w1"])
def test_a_task_that_is_left_in_the_queue_is_noticed(key: str) -> None:
    assert _rules(Leftover(key, "zset", -1, ("default/t1",))) == ["no task is left in the queue"]


def test_an_ended_task_that_keeps_its_start_deadline_is_noticed() -> None:
    assert _rules(Leftover("tailplane:default:task:{t2}", "hash", 47 * HOUR_MS)) == ["an ended task has its retention"]


def test_a_dead_worker_s_lease_is_noticed() -> None:
    assert [one.rule for one in violations(TIDY, {"t1", "t2"}, 1)] == ["leases are of the living"]


@pytest.mark.parametrize("task_ids", [{"t1"}, {"t1", "t2", "t3"}])
def test_a_task_too_many_or_too_few_is_noticed(task_ids: set[str]) -> None:
    assert [one.rule for one in violations(TIDY, task_ids, 2)] == ["each submit makes one task"]


def test_records_of_repeated_submits_are_counted() -> None:
    other = Leftover("tailplane:default:task:{t9}", "hash", 47 * HOUR_MS)
    assert _rules(other) == []
    assert unqueued([*TIDY, other], {"t1", "t2"}) == 1
