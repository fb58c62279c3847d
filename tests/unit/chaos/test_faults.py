"""A chaos run's schedule and orders follow from its seed, and leave the fleet room to get on."""

from collections import Counter

from tests.chaos.faults import OF_ONE_SERVER, Kind, schedule
from tests.chaos.orders import WORKFLOWS, orders

FIVE_MINUTES = 300.0


def test_a_seed_repeats_the_schedule() -> None:
    assert schedule(3, FIVE_MINUTES, 3, 2) == schedule(3, FIVE_MINUTES, 3, 2)
    assert schedule(3, FIVE_MINUTES, 3, 2) != schedule(4, FIVE_MINUTES, 3, 2)


def test_five_minutes_hold_thirty_faults_of_each_kind() -> None:
    faults = schedule(3, FIVE_MINUTES, 3, 2)
    assert Counter(fault.kind for fault in faults) == dict.fromkeys(OF_ONE_SERVER, 30)
    assert faults[-1].at < FIVE_MINUTES + 15
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)


def test_half_a_minute_holds_some_of_each_kind() -> None:
    assert Counter(fault.kind for fault in schedule(3, 28.0, 3, 2)) == dict.fromkeys(OF_ONE_SERVER, 3)


def test_a_run_may_be_of_some_kinds_alone() -> None:
    faults = schedule(3, FIVE_MINUTES, 3, 2, [Kind.WORKER_KILLED])
    assert Counter(fault.kind for fault in faults) == {Kind.WORKER_KILLED: 30}


def test_one_worker_is_always_left_alone() -> None:
    processes = (Kind.WORKER_KILLED, Kind.WORKER_STOPPED, Kind.WORKER_DRAINED)
    faults = [fault for fault in schedule(3, FIVE_MINUTES, 3, 2) if fault.kind in processes]
    for fault in faults:
        out = {other.target for other in faults if other.at <= fault.at < other.at + other.lasts}
        assert len(out) <= 2
    assert {fault.target for fault in faults} == {0, 1, 2}


def test_a_stopped_worker_outlives_its_lease() -> None:
    stopped = [fault for fault in schedule(3, FIVE_MINUTES, 3, 2) if fault.kind is Kind.WORKER_STOPPED]
    assert all(fault.lasts > 3 for fault in stopped)


def test_a_seed_repeats_the_orders_whatever_their_number() -> None:
    assert orders(3, 400)[:40] == orders(3, 40)
    assert orders(3, 40) != orders(4, 40)
    assert {order.workflow for order in orders(3, 400)} == WORKFLOWS
