"""Several tenants in the queue: whose task a claim takes, what workers are told, and what each script leaves behind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import (
    ALONE,
    PLAIN,
    Broker,
    Claim,
    Claims,
    Order,
    Room,
    TaskRef,
    TenantRecord,
    Terms,
    Turn,
    queue_name,
)
from tailplane.broker.parking import Parked
from tailplane.broker.schedules import Move
from tailplane.protocol.errors import QueueFull
from tailplane.protocol.ids import WorkerId, new_task_id, new_worker_id
from tailplane.protocol.priorities import Priority

from .conftest import LAPSED, Deployment, every

KEY = Terms(concurrency_key="customer 7")
LOW = Terms(Priority.LOW)


@dataclass
class Tenants:
    """Tenants that queue tasks, and workers that take them."""

    broker: Broker
    deployment: Deployment
    version: int = 0
    queued: Counter[str] = field(default_factory=Counter)

    async def enqueue(
        self, tenant: str, workflow: str = "a", *, count: int = 1, due: float = 0, terms: Terms = PLAIN
    ) -> list[TaskRef]:
        tasks = [TaskRef(new_task_id(), tenant) for _ in range(count)]
        for task in tasks:
            await self.broker.queue.enqueue(task, workflow, delay=timedelta(seconds=due), terms=terms)
        return tasks

    async def claim(
        self, free: int, *turns: Turn, worker: WorkerId | None = None, is_all: bool = True, **room: int | Room
    ) -> Claims:
        """Claim in this order, by a worker that knows of all queues."""
        version = await self.turns_version()
        order = Order(turns, version, is_all)
        claims = await self.broker.queue.claim(worker or self.deployment.worker, free, room or {"a": free}, order)
        assert claims.turned is None
        return claims

    async def turns_version(self) -> int:
        score = await self.broker.redis.zscore(self.broker.keys.turns, self.broker.keys.TURNS_VERSION)
        return int(score or 0)

    async def tokens(self, workflow: str = "a") -> int:
        count: int = await self.broker.redis.llen(self.broker.keys.doorbell(workflow))  # type: ignore[misc]
        return count

    async def hear(self, *workflows: str) -> None:
        """Take the doorbells' tokens away."""
        await self.broker.redis.delete(*map(self.broker.keys.doorbell, workflows or ("a",)))


@pytest.fixture
async def tenants(deployment: Deployment, broker: Broker) -> Tenants:
    await deployment.register()
    return Tenants(broker, deployment)


def whose(claims: Claims | Sequence[Claim]) -> str:
    """Return the tenants of claims, one letter each, in their order."""
    taken = claims.taken if isinstance(claims, Claims) else claims
    return "".join(claim.task.tenant[0] for claim in taken)


class TestTurned:
    async def test_a_worker_is_told_of_queues_that_it_does_not_know(self, tenants: Tenants, broker: Broker) -> None:
        limited = await broker.tenants.set_limits(TenantRecord("blue", weight=3, max_running=2))
        for tenant, workflow in (("acme", "a"), ("blue", "a"), ("blue", "b"), ("acme", "other"), ("default", "a")):
            await tenants.enqueue(tenant, workflow)
        claims = await broker.queue.claim(tenants.deployment.worker, 9, {"a": 9, "b": 9})
        told = claims.turned
        assert claims.taken == []
        assert told is not None
        assert (told.version, told.is_cut) == (await tenants.turns_version(), False)
        assert told.queues == [("acme", "a"), ("blue", "a"), ("blue", "b")]
        assert told.tenants == [TenantRecord("default"), TenantRecord("acme"), limited]
        order = Order([Turn(), Turn("acme", ["a"]), Turn("blue", ["a", "b"])], told.version)
        claims = await broker.queue.claim(tenants.deployment.worker, 9, {"a": 9, "b": 9}, order)
        assert sorted(claim.queue for claim in claims.taken) == ["a", "acme/a", "blue/a", "blue/b"]

    async def test_who_asks_for_the_second_time_gets_what_it_knows_of(self, tenants: Tenants, broker: Broker) -> None:
        await tenants.enqueue("acme")
        order = Order([Turn(), Turn("acme", ["a"])], None)
        assert whose(await broker.queue.claim(tenants.deployment.worker, 9, {"a": 9}, order)) == "a"

    async def test_more_than_it_can_be_told_at_once_it_is_told_from_one_on(
        self, tenants: Tenants, broker: Broker, redis: Redis
    ) -> None:
        names = [f"a/t{n:04}" for n in range(1500)]
        await redis.zadd(broker.keys.turns, {**dict.fromkeys(names, 0), broker.keys.TURNS_VERSION: 7})
        seen: set[str] = set()
        for after in ("", "t0700"):
            order = Order((Turn(),), 0, True, after)
            told = (await broker.queue.claim(tenants.deployment.worker, 9, {"a": 9}, order)).turned
            assert told is not None
            assert (told.is_cut, len(told.queues)) == (True, 1000)
            assert told.queues[0][0] == (after or "t0000")
            seen |= {tenant for tenant, _ in told.queues}
        assert len(seen) == 1500

    async def test_limits_that_are_set_are_told(self, tenants: Tenants, broker: Broker) -> None:
        assert (await broker.queue.claim(tenants.deployment.worker, 1, {"a": 1})).turned is None
        put = await broker.tenants.set_limits(TenantRecord("default", max_running=1))
        assert await broker.queue.queues(9) == []
        told = (await broker.queue.claim(tenants.deployment.worker, 1, {"a": 1})).turned
        assert told is not None
        assert (told.tenants, told.queues) == ([put], [])

    async def test_one_tenant_alone_leaves_no_trace(self, tenants: Tenants, broker: Broker, redis: Redis) -> None:
        (task,) = await tenants.enqueue("default")
        assert [claim.task for claim in (await tenants.claim(1, Turn())).taken] == [task]
        assert not await redis.exists(broker.keys.turns)

    async def test_a_queue_that_is_found_empty_is_taken_off(self, tenants: Tenants, broker: Broker) -> None:
        await tenants.enqueue("acme", count=2)
        await tenants.enqueue("blue", due=60)
        await tenants.enqueue("core", terms=KEY)
        turns = [Turn(), *(Turn(name, ["a"]) for name in ("acme", "blue", "core"))]
        # The second task of its key is blocked, which is something.
        held = await tenants.claim(9, *turns)
        assert whose(held) == "aca"
        await tenants.enqueue("core", terms=KEY)
        version = await tenants.turns_version()
        claims = await tenants.claim(9, *turns)
        assert (claims.taken, claims.empty) == ([], [("acme", "a")])
        assert await broker.queue.queues(9) == ["blue/a", "core/a"]
        assert await tenants.turns_version() == version
        await tenants.enqueue("acme")
        assert await tenants.turns_version() == version + 1
        assert await broker.queue.queues(9) == ["acme/a", "blue/a", "core/a"]
        assert await broker.queue.queues(9, after="acme/a") == ["blue/a", "core/a"]
        assert await broker.queue.queues(1) == ["acme/a"]


class TestOrder:
    async def test_who_has_the_least_virtual_time_goes_first(self, tenants: Tenants) -> None:
        await tenants.enqueue("acme", count=20)
        await tenants.enqueue("blue", count=20)
        await tenants.enqueue("default", count=20)
        claims = await tenants.claim(
            9, Turn(at=1.5, cost=0.5), Turn("acme", ["a"], at=0.0, cost=1.0), Turn("blue", ["a"], at=1.0, cost=0.25)
        )
        # acme 0; acme 1 before blue 1, which is named behind it; blue up to 1.75, default from 1.5 on.
        assert whose(claims) == "aabbdbbda"
        assert sorted(claims.waiting) == ["acme", "blue", "default"]

    async def test_costs_make_shares(self, tenants: Tenants) -> None:
        await tenants.enqueue("acme", count=60)
        await tenants.enqueue("blue", count=60)
        claims = await tenants.claim(40, Turn(), Turn("acme", ["a"], cost=1 / 3), Turn("blue", ["a"], cost=1))
        assert Counter(whose(claims)) == {"a": 30, "b": 10}

    async def test_of_one_tenant_it_is_the_class_and_then_the_longest_due(
        self, tenants: Tenants, broker: Broker
    ) -> None:
        high = await tenants.enqueue("acme", "b", terms=Terms(Priority.HIGH))
        low = await tenants.enqueue("acme", due=-60, terms=LOW)
        normal = await tenants.enqueue("acme", due=-30)
        others = [(await tenants.enqueue("blue", due=due, terms=LOW))[0] for due in (-20, -10)]
        turns = Turn(), Turn("acme", ["a", "b"]), Turn("blue", ["a"])
        claims = await tenants.claim(9, *turns, a=9, b=9)
        assert whose(claims) == "ababa"
        assert [claim.task for claim in claims.taken] == [*high, others[0], *normal, others[1], *low]

    async def test_each_tenth_of_a_tenant_is_its_longest_due(self, tenants: Tenants) -> None:
        low = (await tenants.enqueue("acme", due=-60, terms=LOW))[0]
        await tenants.enqueue("acme", count=30)
        await tenants.enqueue("blue", count=30)
        turns = Turn(), Turn("acme", ["a"], taken=7), Turn("blue", ["a"], taken=3)
        claims = await tenants.claim(20, *turns)
        mine = [claim.task for claim in claims.taken if claim.task.tenant == "acme"]
        assert mine.index(low) == 2

    async def test_nothing_is_left_while_slots_are_free(self, tenants: Tenants) -> None:
        await tenants.enqueue("acme", count=2)
        await tenants.enqueue("blue", count=50)
        claims = await tenants.claim(40, Turn(), Turn("acme", ["a"]), Turn("blue", ["a"], at=1000.0))
        assert Counter(whose(claims)) == {"a": 2, "b": 38}
        assert claims.waiting == ["blue"]

    async def test_room_of_a_workflow_is_shared(self, tenants: Tenants) -> None:
        for tenant in ("acme", "blue"):
            await tenants.enqueue(tenant, "a", count=5)
        await tenants.enqueue("acme", "b", count=5)
        claims = await tenants.claim(9, Turn(), Turn("acme", ["a", "b"]), Turn("blue", ["a"]), a=4, b=3)
        assert Counter(claim.queue for claim in claims.taken) == {"acme/a": 2, "blue/a": 2, "acme/b": 3}
        # blue had more, of which no more may run here: that is no claim on what comes free elsewhere.
        assert claims.waiting == []
        assert claims.held_up == {"acme": "b", "blue": "a"}
        claims = await tenants.claim(9, Turn(), Turn("acme", ["a"]), Turn("blue", ["a"]), a=0)
        assert (claims.taken, claims.waiting, claims.held_up) == ([], [], {"acme": "a", "blue": "a"})

    async def test_a_doorbell_is_silenced_only_by_who_looked_everywhere(self, tenants: Tenants) -> None:
        await tenants.enqueue("acme")
        await tenants.claim(1, Turn(), is_all=False)
        assert await tenants.tokens() == 1
        claims = await tenants.claim(1, Turn(), Turn("acme", ["a"]), is_all=False)
        assert whose(claims) == "a"
        await tenants.claim(1, Turn(), Turn("acme", ["a"]), is_all=False)
        assert await tenants.tokens() == 1
        await tenants.claim(1, Turn(), Turn("acme", ["a"]))
        assert await tenants.tokens() == 0

    async def test_nor_by_who_had_enough_before_it_came_to_all(self, tenants: Tenants) -> None:
        await tenants.enqueue("acme", "a", count=2)
        await tenants.enqueue("blue", "b")
        turns = [Turn(at=2), Turn("acme", ["a"], cost=0.1), Turn("blue", ["b"], at=1)]
        claims = await tenants.claim(2, *turns, a=2, b=2)
        assert (whose(claims), claims.passed_over) == ("aa", ["default", "blue"])
        assert await tenants.tokens("b") == 1

    async def test_nor_by_who_may_not_know_of_all(self, tenants: Tenants, broker: Broker) -> None:
        await tenants.enqueue("acme", "a")
        order = Order([Turn()], None)
        assert (await broker.queue.claim(tenants.deployment.worker, 1, {"a": 1}, order)).taken == []
        assert await tenants.tokens() == 1


class TestMaxRunning:
    BOUND = Turn("acme", ["a", "b"], max_running=2)

    async def test_no_more_run_in_the_fleet(self, tenants: Tenants, broker: Broker) -> None:
        other = await tenants.deployment.register(worker=new_worker_id())
        await tenants.enqueue("acme", "a", count=4)
        await tenants.enqueue("acme", "b", count=4)
        await tenants.enqueue("default", count=1)
        claims = await tenants.claim(9, Turn(), self.BOUND, a=9, b=9)
        assert Counter(whose(claims)) == {"a": 2, "d": 1}
        assert (await tenants.claim(9, Turn(), self.BOUND, worker=other, a=9, b=9)).taken == []
        # Also of a worker that was told just now.
        assert await broker.queue.depth("acme/a") + await broker.queue.depth("acme/b") == 6

    @pytest.mark.parametrize("way", ["acknowledge", "requeue", "park", "withdraw", "reap"])
    async def test_each_way_out_lets_the_next_one_in_and_wakes_workers(
        self, tenants: Tenants, broker: Broker, way: str
    ) -> None:
        worker, other = tenants.deployment.worker, await tenants.deployment.register(worker=new_worker_id())
        await tenants.enqueue("acme", "a", count=2)
        first, second = (await tenants.claim(2, Turn(), self.BOUND, a=2, b=2)).taken
        assert first.has_terms
        assert second.has_terms
        # Of another workflow, whose workers know nothing of the one that ends.
        await tenants.enqueue("acme", "b", count=2)
        assert (await tenants.claim(2, Turn(), Turn("acme", ["b"], max_running=2), worker=other, b=2)).taken == []
        assert await tenants.tokens("b") == 0
        match way:
            case "acknowledge":
                await broker.queue.acknowledge(worker, first)
            case "requeue":
                assert await broker.queue.requeue(worker, first, timedelta(hours=1))
            case "park":
                assert await broker.parking.park(worker, first, None)
            case "withdraw":
                await broker.queue.withdraw(first.task, "a", worker)
            case "reap":
                assert await broker.queue.reap(worker, leaves=True) == 2
        assert await tenants.tokens("b") >= 1
        claims = await tenants.claim(9, Turn(), Turn("acme", ["b"], max_running=2), worker=other, b=9)
        assert len(claims.taken) == (2 if way == "reap" else 1)

    async def test_who_fills_a_bound_calls_workers_for_what_is_left(self, tenants: Tenants, broker: Broker) -> None:
        await tenants.enqueue("acme", "a", count=3)
        first, _ = (await tenants.claim(9, Turn(), self.BOUND, a=9, b=9)).taken
        await tenants.hear()
        # Nobody has looked in vain in between.
        await broker.queue.acknowledge(tenants.deployment.worker, first)
        assert await tenants.tokens() == 1

    async def test_the_default_tenant_may_be_bound_too(self, tenants: Tenants) -> None:
        await tenants.enqueue("default", count=3)
        claims = (await tenants.claim(9, Turn(max_running=2))).taken
        assert len(claims) == 2
        assert (await tenants.claim(9, Turn(max_running=2))).taken == []
        await tenants.broker.queue.acknowledge(tenants.deployment.worker, claims[0])
        assert len((await tenants.claim(9, Turn(max_running=2))).taken) == 1

    async def test_a_bound_that_was_raised_is_found_out(self, tenants: Tenants, broker: Broker) -> None:
        await tenants.enqueue("acme", "a", count=4)
        assert len((await tenants.claim(9, Turn(), self.BOUND, a=9, b=9)).taken) == 2
        assert (await tenants.claim(9, Turn(), self.BOUND, a=9, b=9)).taken == []
        await tenants.hear()
        assert await broker.queue.admit(100) == (0, 0)
        assert await tenants.tokens() == 1
        assert len((await tenants.claim(9, Turn(), self.BOUND._replace(max_running=3), a=9, b=9)).taken) == 1

    async def test_nothing_is_left_behind(self, tenants: Tenants, broker: Broker, redis: Redis) -> None:
        await tenants.enqueue("acme", "a", count=3)
        while (claims := (await tenants.claim(9, Turn(), self.BOUND, a=9, b=9)).taken) != []:
            await broker.queue.acknowledge(tenants.deployment.worker, *claims)
        keys = broker.keys
        assert not await redis.exists(keys.holders, keys.limits, keys.terms, keys.blocked)
        assert await redis.zrange(keys.turns, 0, -1) == [keys.TURNS_VERSION.encode()]


class TestMoves:
    """What gives a task of a tenant to its queue tells workers of it."""

    async def claimed(self, tenants: Tenants, terms: Terms = PLAIN) -> Claim:
        """Return a claim on the only task there is; its queue is not in the turns."""
        await tenants.enqueue("acme", terms=terms)
        (claim,) = (await tenants.claim(1, Turn(), Turn("acme", ["a"]))).taken
        await tenants.claim(1, Turn(), Turn("acme", ["a"]))
        assert await tenants.broker.queue.queues(9) == []
        await tenants.hear()
        return claim

    async def test_claims_know_their_queue(self, tenants: Tenants, broker: Broker) -> None:
        claim = await self.claimed(tenants)
        assert (claim.workflow, claim.queue) == ("a", "acme/a")
        assert await broker.queue.held(tenants.deployment.worker) == {claim.task: "a"}

    async def test_requeue(self, tenants: Tenants, broker: Broker) -> None:
        claim = await self.claimed(tenants)
        assert await broker.queue.requeue(tenants.deployment.worker, claim, timedelta())
        assert await broker.queue.overdue("acme/a", timedelta(), 9) == [claim.task]
        assert (await broker.queue.queues(9), await tenants.tokens()) == (["acme/a"], 1)

    async def test_park_and_unpark(self, tenants: Tenants, broker: Broker) -> None:
        claim = await self.claimed(tenants)
        parked = Parked(claim.task, "a")
        assert await broker.parking.park(tenants.deployment.worker, claim, None)
        assert await broker.parking.page(0, 9) == [parked]
        assert await broker.queue.queues(9) == []
        assert await broker.parking.unpark(parked)
        assert await broker.queue.overdue("acme/a", timedelta(), 9) == [claim.task]
        assert (await broker.queue.queues(9), await tenants.tokens()) == (["acme/a"], 1)

    async def test_withdraw_of_a_parked_one(self, tenants: Tenants, broker: Broker) -> None:
        claim = await self.claimed(tenants)
        await broker.parking.park(tenants.deployment.worker, claim, None)
        await broker.queue.withdraw(claim.task, "a", None)
        assert await broker.parking.page(0, 9) == []

    async def test_reap(self, tenants: Tenants, broker: Broker) -> None:
        claim = await self.claimed(tenants)
        await tenants.deployment.register(lease=LAPSED)
        assert await broker.queue.reap(tenants.deployment.worker) == 1
        assert await broker.queue.overdue("acme/a", timedelta(), 9) == [claim.task]
        assert (await broker.queue.queues(9), await tenants.tokens()) == (["acme/a"], 1)

    async def test_fire(self, tenants: Tenants, broker: Broker) -> None:
        spec = every(3600, workflow="a")
        await broker.schedules.put("acme", "hourly", spec, 3600_000, 0)
        schedule = await broker.schedules.read("acme", "hourly")
        task = schedule.task_at(3600_000)
        assert await broker.schedules.fire(schedule, Move(3600_000, 3600_000, 7200_000), 3600_000, task) == 1
        assert await broker.queue.overdue("acme/a", timedelta(), 9) == [task]
        assert (await broker.queue.queues(9), await tenants.tokens()) == (["acme/a"], 1)
        assert await broker.queue.depth("a") == 0

    async def test_a_key_lets_in_from_another_of_its_tenants_queues(self, tenants: Tenants, broker: Broker) -> None:
        claim = await self.claimed(tenants, KEY)
        (blocked,) = await tenants.enqueue("acme", "b", terms=KEY)
        await tenants.enqueue("blue", "b", terms=KEY)
        assert (await broker.queue.backlogs(["acme/b"]))["acme/b"].depth == 1
        assert await broker.queue.queues(9) == ["acme/b", "blue/b"]
        claims = await tenants.claim(9, Turn(), Turn("acme", ["b"]), Turn("blue", ["b"]), b=9)
        assert whose(claims) == "b"
        assert await broker.queue.waits([(blocked, "b")]) == [True]
        await broker.queue.acknowledge(tenants.deployment.worker, claim)
        assert [each.task for each in (await tenants.claim(9, Turn(), Turn("acme", ["b"]), b=9)).taken] == [blocked]

    async def test_withdraw_of_a_blocked_one(self, tenants: Tenants, broker: Broker) -> None:
        await self.claimed(tenants, KEY)
        (blocked,) = await tenants.enqueue("acme", terms=KEY)
        await broker.queue.withdraw(blocked, "a", None)
        assert await broker.queue.depth("acme/a") == 0
        await tenants.claim(9, Turn(), Turn("acme", ["a"]))
        assert await broker.queue.queues(9) == []


async def test_the_bound_on_what_waits_is_a_tenants_own(tenants: Tenants, broker: Broker) -> None:
    for tenant in ("acme", "default", "blue"):
        for depth in (1, 2):
            made = await broker.queue.enqueue(TaskRef(new_task_id(), tenant), "a", limit=2)
            assert made.depth == depth
        with pytest.raises(QueueFull) as caught:
            await broker.queue.enqueue(TaskRef(new_task_id(), tenant), "a", limit=2)
        assert caught.value.depth == 2
    assert {name: each.depth for name, each in (await broker.queue.backlogs(["a", "acme/a", "blue/a"])).items()} == {
        "a": 2, "acme/a": 2, "blue/a": 2,
    }  # fmt: skip


async def test_a_worker_that_knows_of_no_tenants_takes_only_what_is_the_default_ones(tenants: Tenants) -> None:
    await tenants.enqueue("default")
    assert whose(await tenants.broker.queue.claim(tenants.deployment.worker, 9, {"a": 9}, ALONE)) == "d"


def test_a_queue_is_named_by_workflow_and_by_other_tenants_than_the_default_one() -> None:
    assert (queue_name("default", "a"), queue_name("acme", "a")) == ("a", "acme/a")
