"""Whose turn it is: shares by weight, newcomers, long tasks, very many tenants; all on a clock of the test's own."""

import heapq
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailplane.broker import Claim, Claims, Order, TaskRef, TenantRecord, Turned
from tailplane.protocol.ids import TaskId
from tailplane.workers.turns import QUEUES_AT_ONCE, Turns

FLOW = "flow"


@dataclass
class Bench:
    """A worker with some slots, and the tenants' queues, from which it takes as `claim.lua` does.

    Attributes:
        limits: of workflows of which fewer run at once than there are slots.
        queues: of each tenant and workflow the durations of its tasks, in seconds, the next one first.
        slot_seconds: for how long a tenant's tasks have had slots.
        started: when each of its tasks began.
        delayed: tenants that have tasks which are not due.
    """

    slots: int
    weights: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    now: float = 0.0
    queues: defaultdict[tuple[str, str], deque[float]] = field(default_factory=lambda: defaultdict(deque))
    slot_seconds: Counter[str] = field(default_factory=Counter)
    started: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    delayed: set[str] = field(default_factory=set)
    looks: int = 0

    def __post_init__(self) -> None:
        self.turns = Turns(lambda: self.now)
        self.version, self.told = 0, set[tuple[str, str]]()
        self.running: list[tuple[float, int, Claim, float]] = []
        self.numbers = itertools.count()

    def submit(self, tenant: str, *durations: float, workflow: str = FLOW) -> None:
        self.queues[tenant, workflow].extend(durations)
        if (tenant, workflow) not in self.told:
            self.version += tenant != "default"
            self.told.add((tenant, workflow))

    def run(self, until: float) -> None:
        """Let the worker take what there is, and tasks end, until a moment."""
        self._take()
        while self.running and self.running[0][0] <= until:
            self.now, _, claim, duration = heapq.heappop(self.running)
            self.slot_seconds[claim.task.tenant] += duration  # type: ignore[assignment]
            self.turns.ended(claim)
            self._take()
        self.now = until

    @property
    def can_take(self) -> bool:
        """Whether a slot is free for a task that waits."""
        room = self._room()
        waits = any(queue and room[workflow] > 0 for (_, workflow), queue in self.queues.items())
        return waits and len(self.running) < self.slots

    def _room(self) -> dict[str, int]:
        busy = Counter(claim.workflow for _, _, claim, _ in self.running)
        workflows = {FLOW, *self.limits}
        return {workflow: self.limits.get(workflow, self.slots) - busy[workflow] for workflow in workflows}

    def _take(self) -> None:
        has_unseen = True
        while has_unseen and len(self.running) < self.slots:
            order = self.turns.order(self._room())
            if order.version != self.version:
                self.turns.learn(self._turned())
                order = self.turns.order(self._room())
            claims = self._claim(order, self.slots - len(self.running))
            has_unseen = self.turns.note(order, claims)
            self.looks += 1

    def _turned(self) -> Turned:
        queues = [each for each in sorted(self.told) if each[0] != "default"]
        tenants = sorted({"default", *(tenant for tenant, _ in self.told)})
        records = [TenantRecord(tenant, weight=self.weights.get(tenant, 1)) for tenant in tenants]
        return Turned(self.version, False, queues, records)

    def _claim(self, order: Order, free: int) -> Claims:
        room = {workflow: min(free, places) for workflow, places in self._room().items()}
        narrow = {workflow for workflow, places in room.items() if places < free}
        lines = {
            turn.tenant: [(turn.tenant, name) for name in (turn.workflows if turn.tenant != "default" else room)]
            for turn in order.turns
        }
        at = {turn.tenant: turn.at for turn in order.turns}
        empty = [line for turn in lines.values() for line in turn if not self.queues[line]]
        taken = []
        while len(taken) < free:
            open_to = {
                tenant: [line for line in mine if self.queues[line] and room[line[1]] > 0]
                for tenant, mine in lines.items()
            }
            if not (there := [turn for turn in order.turns if open_to[turn.tenant]]):
                break
            turn = min(there, key=lambda turn: at[turn.tenant])
            at[turn.tenant] += turn.cost
            line = open_to[turn.tenant][0]
            room[line[1]] -= 1
            number = next(self.numbers)
            claim = Claim(TaskRef(TaskId(f"t_{number}"), turn.tenant), line[1], timedelta())
            duration = self.queues[line].popleft()
            heapq.heappush(self.running, (self.now + duration, number, claim, duration))
            self.started[turn.tenant].append(self.now)
            taken.append(claim)
        empty = [line for line in empty if line[0] not in self.delayed and line[0] != "default"]
        self.told -= set(empty)
        left = {tenant: [line[1] for line in mine if self.queues[line]] for tenant, mine in lines.items()}
        waiting = [name for name, flows in left.items() if any(room[flow] > 0 or flow not in narrow for flow in flows)]
        held_up = {name: flows[0] for name, flows in left.items() if flows and name not in waiting}
        return Claims(taken, None, None, empty, waiting, held_up)


def shares(bench: Bench, tenants: Sequence[str]) -> list[float]:
    total = sum(bench.slot_seconds[tenant] for tenant in tenants)
    return [bench.slot_seconds[tenant] / total for tenant in tenants]


@settings(max_examples=30)
@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0.1, 0.5, 2.0])), min_size=2, max_size=4),
)
def test_who_always_has_something_gets_slot_time_by_weight(slots: int, tenants: list[tuple[int, float]]) -> None:
    # How long tasks take is the tenants' own affair.
    names = [f"t{n}" for n in range(len(tenants))]
    bench = Bench(slots, {name: weight for name, (weight, _) in zip(names, tenants, strict=True)})
    longest, total = max(duration for _, duration in tenants), sum(weight for weight, _ in tenants)
    until = 60 * longest * total / slots
    for name, (_, duration) in zip(names, tenants, strict=True):
        bench.submit(name, *itertools.repeat(duration, int(until * slots / duration) + slots))
    bench.run(until)
    for share, (weight, _) in zip(shares(bench, names), tenants, strict=True):
        assert abs(share - weight / total) < 0.08


def test_shares_of_tasks_alike_are_by_weight() -> None:
    bench = Bench(4, {"a": 3})
    for tenant in "ab":
        bench.submit(tenant, *itertools.repeat(0.02, 5000))
    bench.run(20)
    assert 2.9 < len(bench.started["a"]) / len(bench.started["b"]) < 3.1


@pytest.mark.parametrize("has_busy_one", [False, True])
def test_in_a_narrow_workflow_shares_are_by_weight_too(has_busy_one: bool) -> None:
    bench = Bench(20, {"a": 3}, {"narrow": 2})
    for tenant in "ab":
        bench.submit(tenant, *itertools.repeat(1.0, 500), workflow="narrow")
    if has_busy_one:
        bench.submit("wide", *itertools.repeat(1.0, 5000))
    bench.run(200)
    assert 2.7 < len(bench.started["a"]) / len(bench.started["b"]) < 3.3
    # What they could not have there gives them no more than their share elsewhere: a quarter is the other one's.
    for tenant in ("a", "wide"):
        bench.submit(tenant, *itertools.repeat(1.0, 5000))
    before = len(bench.started["wide"])
    bench.run(230)
    assert len(bench.started["wide"]) - before > 120


def test_who_comes_anew_does_not_wait_behind_what_was_queued_before() -> None:
    bench = Bench(8)
    # Out of step, as a fleet in work is.
    bench.submit("a", *(0.1 * n / 8 for n in range(1, 9)), *itertools.repeat(0.1, 5000))
    bench.run(10)
    bench.submit("b", *itertools.repeat(0.1, 8))
    bench.run(11)
    # Alone, all would begin at once; so, each slot that comes free is theirs until they have had as much.
    waits = sorted(at - 10 for at in bench.started["b"])
    assert waits[4] <= 0.1
    assert waits[-1] <= 0.2
    assert len(bench.started["a"]) > 100


def test_long_tasks_do_not_take_a_fleet_from_short_ones() -> None:
    bench = Bench(10)
    bench.submit("long", *itertools.repeat(600.0, 100))
    bench.submit("short", *itertools.repeat(1.0, 100_000))
    bench.run(6000)
    long, short = shares(bench, ["long", "short"])
    assert abs(long - short) < 0.1


def test_who_had_all_while_nobody_wanted_any_owes_nothing() -> None:
    bench = Bench(4)
    bench.submit("a", *itertools.repeat(1.0, 400))
    bench.run(100)
    for tenant in "ab":
        bench.submit(tenant, *itertools.repeat(1.0, 400))
    before = len(bench.started["a"])
    bench.run(110)
    assert len(bench.started["a"]) - before >= 16


def test_who_was_away_gets_nothing_for_it() -> None:
    bench = Bench(2)
    for tenant in "abc":
        bench.submit(tenant, *itertools.repeat(1.0, 10 if tenant == "c" else 1000))
    bench.run(200)
    before = Counter({tenant: len(bench.started[tenant]) for tenant in "abc"})
    bench.submit("c", *itertools.repeat(1.0, 1000))
    bench.run(260)
    gained = [len(bench.started[tenant]) - before[tenant] for tenant in "abc"]
    assert max(gained) - min(gained) <= 4


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(st.sampled_from(["default", *(f"t{n}" for n in range(6))]), st.floats(0, 50), st.floats(0.001, 3)),
        min_size=1,
        max_size=80,
    ),
)
def test_no_slot_is_free_while_something_waits_and_everything_is_done(
    slots: int, tasks: list[tuple[str, float, float]]
) -> None:
    bench = Bench(slots, {"t0": 7, "t1": 1000})
    for tenant, at, duration in sorted(tasks, key=lambda task: task[1]):
        bench.run(max(at, bench.now))
        bench.submit(tenant, duration)
        bench.run(bench.now)
        assert not bench.can_take
    bench.run(1000)
    assert sum(map(len, bench.started.values())) == len(tasks)


@given(st.integers(1, 6), st.lists(st.integers(1, 100), min_size=2, max_size=12))
def test_nobody_starves_beside_any_weights(slots: int, weights: list[int]) -> None:
    names = [f"t{n}" for n in range(len(weights))]
    bench = Bench(slots, dict(zip(names, weights, strict=True)))
    for name in names:
        bench.submit(name, *itertools.repeat(1.0, 5000))
    # Everybody's turn comes in a round of all weights, however they compare.
    bench.run(2 * sum(weights) / min(weights) / slots + 5)
    assert all(bench.started[name] for name in names)


def test_of_very_many_tenants_each_has_its_turn() -> None:
    bench, names = Bench(10), [f"t{n}" for n in range(500)]
    for name in names:
        bench.submit(name, *itertools.repeat(1.0, 100))
    bench.run(150)
    counts = [len(bench.started[name]) for name in names]
    assert min(counts) >= 1
    assert max(counts) <= 5


def test_one_that_has_something_is_found_among_many_that_have_nothing_yet() -> None:
    bench, names = Bench(1), [f"t{n}" for n in range(500)]
    bench.delayed = set(names)
    for name in names:
        bench.submit(name)
    bench.submit("t250", *itertools.repeat(1.0, 10))
    bench.run(5.5)
    # No slot was free while it had something, and few looks were in vain once it was found.
    assert len(bench.started["t250"]) == 6
    assert bench.looks <= 500 // QUEUES_AT_ONCE + 10


def test_a_worker_of_one_tenant_looks_at_it_alone() -> None:
    bench = Bench(3)
    bench.submit("default", *itertools.repeat(1.0, 9))
    bench.run(3.5)
    assert len(bench.started["default"]) == 9
    assert bench.turns.order([FLOW]).turns[0].taken == 9
    assert not bench.turns.note(bench.turns.order([FLOW]), Claims([], None))


@pytest.mark.parametrize("queues", [[], [("a", FLOW)]])
def test_queues_are_asked_for_once_in_a_while_whatever_the_version(queues: list[tuple[str, str]]) -> None:
    now = 0.0
    turns = Turns(lambda: now)
    told = Turned(3, False, queues, [TenantRecord(name) for name in ("default", *(name for name, _ in queues))])
    for _ in range(3):
        turns.learn(told)
        now += 5
        assert turns.order([FLOW]).version == 3
        now += 6
        assert turns.order([FLOW]).version == -1


def test_limits_that_were_changed_hold_from_the_next_claim_on() -> None:
    turns = Turns(lambda: 0.0)
    turns.learn(Turned(3, False, [("a", FLOW)], [TenantRecord("default"), TenantRecord("a", weight=4, max_running=2)]))
    (default, a) = turns.order([FLOW]).turns
    assert (a.cost, a.max_running, a.workflows) == (default.cost / 4, 2, [FLOW])
    turns.learn(Turned(4, False, [("a", FLOW)], [TenantRecord("default", max_running=9), TenantRecord("a")]))
    (default, a) = turns.order([FLOW]).turns
    assert (a.cost, a.max_running, default.max_running) == (default.cost, None, 9)
    # Of workflows for which the worker has no room nothing is asked.
    assert [turn.tenant for turn in turns.order(["other"]).turns] == ["default"]
