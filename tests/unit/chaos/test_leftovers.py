"""What a chaos run leaves behind in Redis is judged."""

from collections.abc import Mapping

import pytest

from tailplane.protocol.states import State
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


ENDS: dict[str, State | None] = {"t1": State.SUCCEEDED, "t2": State.CANCELLED}


def _rules(*more: Leftover, ends: Mapping[str, State | None] = ENDS, workers: int = 2) -> list[str]:
    return [violation.rule for violation in violations([*TIDY, *more], ends, workers)]


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
    assert _rules(workers=1) == ["leases are of the living"]


@pytest.mark.parametrize("ends", [{"t1": State.SUCCEEDED}, ENDS | {"t3": State.SUCCEEDED}])
def test_a_task_too_many_or_too_few_is_noticed(ends: dict[str, State | None]) -> None:
    assert _rules(ends=ends) == ["each submit makes one task"]


def test_a_task_in_another_tenants_index_is_noticed() -> None:
    broken = [each.rule for each in violations(TIDY, ENDS, 2, {"t1": "default", "t2": "ada"})]
    assert broken == ["each submit makes one task"] * 2
    theirs = Leftover("tailplane:{queue}:tasks:ada", "zset", -1, ("t2",))
    others = [each for each in TIDY if not each.key.endswith("tasks:default")]
    ours = Leftover("tailplane:{queue}:tasks:default", "zset", -1, ("t1",))
    assert violations([*others, ours, theirs], ENDS, 2, {"t2": "ada"}) == []


def test_a_failed_task_is_a_dead_letter_and_kept_for_longer() -> None:
    dead = Leftover("tailplane:{queue}:dead:default", "zset", -1, ("t2",))
    record = Leftover("tailplane:default:task:{t2}", "hash", 160 * HOUR_MS)
    failed = ENDS | {"t2": State.FAILED}
    assert _rules(dead, record, ends=failed) == []
    assert _rules(record, ends=failed) == ["dead letters are what failed"]
    assert _rules(dead) == ["dead letters are what failed"]


def test_records_of_repeated_submits_are_counted() -> None:
    other = Leftover("tailplane:default:task:{t9}", "hash", 47 * HOUR_MS)
    assert _rules(other) == []
    assert unqueued([*TIDY, other], {"t1", "t2"}) == 1
