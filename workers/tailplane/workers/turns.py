"""Whose turn it is: the account that a worker keeps of the slots which each tenant has had. No I/O.

Start-time fair queueing, in slot time. A tenant's virtual time is the seconds for which its tasks have had slots here,
divided by its weight; who has the least and has something due goes first. What a task will take is not known when it is
claimed: it is charged with what the tenant's tasks took of late, and put right while it runs and when it ends. A tenant
that comes anew begins where the least of those stands that wait, counting only what these have had so far: it does not
wait behind what runs already, and does not get back what it did not ask for. Neither do those get it back that wait for
room of a workflow with a bound of its own; among themselves they keep their distances.

Each worker is fair by itself, over all its workflows. It begins with an empty account, and no other worker knows of it.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from tailplane.broker import Claim, Claims, Order, TenantRecord, Turn, Turned
from tailplane.protocol.ids import DEFAULT_TENANT

# Queues of other tenants than the default one that one claim looks at, and how many of these places those have that had
# nothing when they were looked at last.
QUEUES_AT_ONCE = 64
_IDLE_AT_ONCE = 16
# Seconds: what the shortest task is charged with, and what one that nothing is known of is.
_SHORTEST = 0.001
_UNKNOWN = 1.0
# How much the newest task says of the next one.
_NEWEST = 0.2
# Seconds between two looks at what runs longer than expected, and between two questions for queues: where there are
# more than one answer tells of; and where the version is the one that is known, for a failover that loses the last
# queues gives their versions to others.
_SETTLE_EVERY = 0.05
_ASK_EVERY = 1.0
_ASK_ANYWAY_EVERY = 10.0
# The version that there never is: who claims with it is told of the queues.
_NO_VERSION = -1


@dataclass(slots=True, eq=False)
class _Tenant:
    """How a tenant stands here.

    Attributes:
        expected: seconds that its next task is charged with.
        workflows: those of which it has a queue.
        used: its virtual time, with all that its running tasks are charged with.
        unearned: how much of that they have not had yet, as of the last look.
        lift: how far the claim under way lets it begin ahead of that.
        taken: how many of its tasks were claimed.
        is_waiting: whether there was no slot left for it when it was looked at last.
        held_up_by: the workflow for whose room it waited then.
        looked, served: the number of the claim that did so last.
    """

    record: TenantRecord
    expected: float
    workflows: set[str] = field(default_factory=set)
    used: float = 0.0
    unearned: float = 0.0
    lift: float = 0.0
    taken: int = 0
    is_waiting: bool = False
    held_up_by: str | None = None
    looked: int = 0
    served: int = 0

    @property
    def had(self) -> float:
        """Its virtual time without what its tasks have not had yet."""
        return self.used - self.unearned

    @property
    def is_behind(self) -> bool:
        """Whether it wants more than it gets."""
        return self.is_waiting or self.held_up_by is not None


@dataclass(slots=True, eq=False)
class _Slot:
    """A slot in which a tenant's task runs, since when, and the seconds that it is charged with."""

    tenant: _Tenant
    since: float
    charged: float


class Turns:
    """The account of one worker.

    Args:
        clock: seconds, by a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected = _UNKNOWN
        self._default = _Tenant(TenantRecord(DEFAULT_TENANT), _UNKNOWN)
        self._tenants = {DEFAULT_TENANT: self._default}
        self._slots: dict[str, _Slot] = {}
        # Where a tenant begins that comes anew. It never goes back.
        self._now = 0.0
        self._version = 0
        self._is_cut = False
        self._after = ""
        self._asked_at, self._settled_at = clock(), float("-inf")
        self._claims = 0
        # Whether the last claim looked at all queues, and how many tenants were looked at since something was taken.
        self._is_all = True
        self._in_vain = 0

    def order(self, workflows: Collection[str]) -> Order:
        """Return what a claim of these workflows is to look at, and in which order."""
        now = self._clock()
        is_old = now - self._asked_at > (_ASK_EVERY if self._is_cut else _ASK_ANYWAY_EVERY)
        version = _NO_VERSION if is_old else self._version
        if len(self._tenants) == 1:
            # Most deployments have no others.
            return Order([self._turn(self._default, ())], version)
        self._settle(now)
        known = [(each, each.workflows.intersection(workflows)) for each in self._tenants.values()]
        there = [(each, names) for each, names in known if names]
        self._is_all = not self._is_cut and sum(len(names) for _, names in there) <= QUEUES_AT_ONCE
        chosen = there if self._is_all else _choose(there)
        # Among equals, who was served least recently.
        turns = sorted([(self._default, set[str]()), *chosen], key=lambda turn: turn[0].served)
        return Order([self._turn(*turn) for turn in turns], version, self._is_all, self._after)

    def learn(self, turned: Turned) -> None:
        """Note which queues there are, and what their tenants may take."""
        self._version, self._is_cut, self._asked_at = turned.version, turned.is_cut, self._clock()
        # From another place on next time: in the end each of very many is found.
        self._after = random.choice(turned.queues)[0] if turned.is_cut else ""
        for tenant in self._tenants.values():
            tenant.workflows.clear()
        for record in turned.tenants:
            if (known := self._tenants.get(record.tenant)) is not None:
                known.record = record
            else:
                self._tenants[record.tenant] = _Tenant(record, self._expected)
        for name, workflow in turned.queues:
            self._tenants[name].workflows.add(workflow)
        self._forget()

    def note(self, order: Order, claims: Claims) -> bool:
        """Note what a claim in that order has given; return whether there are tenants that were not looked at, while
        none had anything.
        """
        self._claims += 1
        now, counts = self._clock(), Counter(claim.task.tenant for claim in claims.taken)
        passed_over = set(claims.passed_over)
        for turn in order.turns:
            if turn.tenant in passed_over:
                continue
            tenant, count = self._tenants[turn.tenant], counts[turn.tenant]
            tenant.looked, tenant.is_waiting = self._claims, turn.tenant in claims.waiting
            tenant.held_up_by = claims.held_up.get(turn.tenant)
            if count or tenant.is_behind:
                tenant.used += tenant.lift + count * turn.cost
            if count:
                tenant.taken += count
                tenant.served = self._claims
        for claim in claims.taken:
            # A member that names no tenant is no task: somebody has put it there by hand, and its claim will fail.
            tenant = self._tenants.get(claim.task.tenant, self._default)
            self._slots[claim.task.member] = _Slot(tenant, now, tenant.expected)
        for name, workflow in claims.empty:
            self._tenants[name].workflows.discard(workflow)
        self._in_vain = 0 if claims.taken else self._in_vain + len(order.turns) - 1
        if self._is_all or claims.taken:
            return False
        has_unseen = self._in_vain < len(self._tenants) - 1
        # What comes next is another look through all.
        self._in_vain = self._in_vain if has_unseen else 0
        return has_unseen

    def ended(self, claim: Claim) -> None:
        """Note that a claimed task's slot is free again."""
        slot = self._slots.pop(claim.task.member, None)
        if slot is None:
            return
        tenant, took = slot.tenant, max(self._clock() - slot.since, _SHORTEST)
        tenant.used += (took - slot.charged) / tenant.record.weight
        tenant.expected += _NEWEST * (took - tenant.expected)
        self._expected += _NEWEST * (took - self._expected)

    def _turn(self, tenant: _Tenant, workflows: Collection[str]) -> Turn:
        tenant.lift = 0.0 if tenant.is_behind else max(0.0, self._now - tenant.used)
        record = tenant.record
        return Turn(
            record.tenant,
            sorted(workflows),
            tenant.used + tenant.lift,
            tenant.expected / record.weight,
            tenant.taken,
            record.max_running,
        )

    def _settle(self, now: float) -> None:
        """Charge what runs longer than expected with what it has had; find out how far the clock of all has come."""
        if now - self._settled_at < _SETTLE_EVERY:
            return
        self._settled_at = now
        for tenant in self._tenants.values():
            tenant.unearned = 0.0
        for slot in self._slots.values():
            tenant, left = slot.tenant, slot.charged - (now - slot.since)
            if left >= 0:
                tenant.unearned += left / tenant.record.weight
            else:
                tenant.used -= left / tenant.record.weight
                slot.charged -= left
        self._advance()

    def _advance(self) -> None:
        tenants = self._tenants.values()
        held_up: defaultdict[str, list[_Tenant]] = defaultdict(list)
        for each in tenants:
            if each.held_up_by is not None:
                held_up[each.held_up_by].append(each)
        firsts = {workflow: min(each.had for each in held) for workflow, held in held_up.items()}
        waiting = [each.had for each in tenants if each.is_waiting]
        # While nobody waits for a slot, nobody takes one from others: all begin alike when somebody has to.
        others = [each.had for each in tenants if each.held_up_by is None]
        self._now = max(self._now, min(waiting) if waiting else max([*others, *firsts.values()]))
        for workflow, held in held_up.items():
            for each in held:
                each.used += max(0.0, self._now - firsts[workflow])

    def _forget(self) -> None:
        """Forget those that have nothing here and would begin anew in any case."""
        runs = {id(slot.tenant) for slot in self._slots.values()}
        self._tenants = {
            name: each
            for name, each in self._tenants.items()
            if each is self._default or each.workflows or id(each) in runs or each.used > self._now
        }


def _choose(there: Sequence[tuple[_Tenant, set[str]]]) -> list[tuple[_Tenant, set[str]]]:
    """Return those of very many that one claim looks at.

    Those with the least virtual time of the ones that wait; of the others, which may have something by now, a few: who
    was not looked at for longest.
    """
    waiting = sorted((each for each in there if each[0].is_waiting), key=lambda each: (each[0].used, each[0].served))
    others = sorted((each for each in there if not each[0].is_waiting), key=lambda each: each[0].looked)
    chosen = _fill(waiting, QUEUES_AT_ONCE - min(_IDLE_AT_ONCE, len(others)))
    chosen += _fill(others, QUEUES_AT_ONCE - sum(len(names) for _, names in chosen))
    return chosen


def _fill(tenants: Iterable[tuple[_Tenant, set[str]]], places: int) -> list[tuple[_Tenant, set[str]]]:
    chosen = []
    for tenant, names in tenants:
        if places <= 0:
            break
        some = names if len(names) <= places else set(random.sample(sorted(names), places))
        chosen.append((tenant, some))
        places -= len(some)
    return chosen
