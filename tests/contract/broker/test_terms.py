"""Classes, keys and bounds: what is claimed first, what is not claimed meanwhile, and what that leaves behind."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Claim, Order, Room, TaskRef, Terms, Turn
from tailplane.broker.claims import IN_TURN, MOST_CLAIMED
from tailplane.broker.parking import Parked
from tailplane.protocol.errors import QueueFull
from tailplane.protocol.ids import new_worker_id
from tailplane.protocol.priorities import Priority
from tailplane.protocol.states import State

from .conftest import Deployment

HIGH, LOW = Terms(Priority.HIGH), Terms(Priority.LOW)
KEY = Terms(concurrency_key="customer 7")


def keyed(limit: int, priority: Priority = Priority.NORMAL, key: str = "customer 7") -> Terms:
    return Terms(priority, key, limit)


async def leftovers(broker: Broker) -> list[int]:
    """Return how much the queue keeps of terms, in each place."""
    return [
        await broker.redis.hlen(broker.keys.terms),  # type: ignore[misc]
        await broker.redis.zcard(broker.keys.blocked),
        await broker.redis.zcard(broker.keys.holders),
        await broker.redis.hlen(broker.keys.limits),  # type: ignore[misc]
    ]


def tasks(claims: list[Claim]) -> list[TaskRef]:
    return [claim.task for claim in claims]


class TestPriority:
    async def test_a_higher_class_goes_first_and_in_a_class_the_longest_due(self, deployment: Deployment) -> None:
        await deployment.register()
        low = await deployment.enqueue("b", -60, LOW)
        later = await deployment.enqueue("a", -10)
        sooner = await deployment.enqueue("b", -20)
        high = await deployment.enqueue("a", -1, HIGH)
        claims = await deployment.claim(a=2, b=2)
        assert tasks(claims) == [high, sooner, later, low]
        assert [round(claim.waited.total_seconds()) for claim in claims] == [1, 20, 10, 60]

    async def test_each_tenth_that_a_worker_takes_is_the_longest_due(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        await deployment.register()
        low = [await deployment.enqueue("a", -1000 + n, LOW) for n in range(4)]
        for n in range(40):
            await deployment.enqueue("a", -100 + n, HIGH)
        # Two by two, as a small worker comes.
        taken: list[TaskRef] = []
        while len(taken) < 40:
            taken += tasks(
                (await broker.queue.claim(deployment.worker, 2, {"a": 2}, Order([Turn(taken=len(taken))]))).taken
            )
        assert [place + 1 for place, task in enumerate(taken) if task in low] == [IN_TURN * n for n in range(1, 5)]
        assert [task for task in taken if task in low] == low

    async def test_a_high_task_that_is_not_due_yet_is_not_claimed_but_announced(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        await deployment.register()
        await deployment.enqueue("a", 300, HIGH)
        normal = await deployment.enqueue("a")
        claims = await broker.queue.claim(deployment.worker, 5, {"a": 5})
        assert tasks(claims.taken) == [normal]
        assert claims.next_due is not None
        assert timedelta(seconds=200) < claims.next_due <= timedelta(seconds=300)

    async def test_a_class_is_kept_by_whoever_gives_the_task_back(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        high = await deployment.enqueue("a", terms=HIGH)
        (claim,) = await deployment.claim(a=1)
        await deployment.enqueue("a", -60)
        await broker.queue.requeue(deployment.worker, claim, timedelta())
        assert tasks(await deployment.claim(a=1)) == [high]
        await broker.queue.reap(deployment.worker, leaves=True)
        await deployment.register()
        assert tasks(await deployment.claim(a=1)) == [high]

    async def test_whatever_waits_is_counted_and_found_in_each_class(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        await deployment.register()
        high = await deployment.enqueue("a", -5, HIGH)
        normal = [await deployment.enqueue("a", -10 + n) for n in range(2)]
        low = await deployment.enqueue("a", -60, LOW)
        first, second = [await deployment.enqueue("a", n - 3, KEY) for n in range(2)]
        (claim,) = await deployment.claim(a=1)
        assert claim.task == high
        await broker.queue.acknowledge(deployment.worker, claim)
        assert tasks(await deployment.claim(a=3)) == [*normal, first]
        assert tasks(await deployment.claim(a=1)) == [low]
        for n, task in enumerate((*normal, low)):
            delay = timedelta(seconds=n - 12)
            await broker.queue.enqueue(task, "a", delay=delay, terms=LOW if task is low else Terms())
        backlog = (await broker.queue.backlogs(["a", "b"]))["a"]
        assert backlog.depth == await broker.queue.depth("a") == 4
        # Not of what waits for its key.
        assert 9 <= backlog.oldest_s < 60
        everything = [*normal, low, second]
        assert await broker.queue.overdue("a", timedelta(seconds=5), 10) == everything
        for skip in range(5):
            assert await broker.queue.overdue("a", timedelta(seconds=5), 2, skip) == everything[skip : skip + 2]
        assert await broker.queue.waits([(task, "a") for task in (high, low, first, second)]) == [
            False,
            True,
            False,
            True,
        ]


class TestKey:
    async def test_no_more_run_at_once_than_the_limit_says(self, deployment: Deployment, broker: Broker) -> None:
        workers = [await deployment.register(worker=new_worker_id()) for _ in range(3)]
        expected = {await deployment.enqueue("ab"[n % 2], n - 30, keyed(2)) for n in range(30)}
        running: list[tuple[str, Claim]] = []
        done: set[TaskRef] = set()
        while expected - done:
            for worker in workers:
                claims = (await broker.queue.claim(worker, 3, {"a": 3, "b": 3})).taken
                running += [(worker, claim) for claim in claims]
                assert len(running) <= 2
            assert len(running) == min(2, len(expected - done))
            worker, claim = running.pop(0)
            assert claim.has_terms
            await broker.queue.acknowledge(worker, claim)  # type: ignore[arg-type]
            done.add(claim.task)
        assert await leftovers(broker) == [0, 0, 0, 0]

    async def test_tenants_have_keys_of_their_own(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        for tenant in ("one", "two"):
            await broker.queue.enqueue(TaskRef((await deployment.create()).task_id, tenant), "a", terms=KEY)
        order = Order([Turn(), Turn("one", ["a"]), Turn("two", ["a"])], version=None)
        claims = (await broker.queue.claim(deployment.worker, 5, {"a": 5}, order)).taken
        assert [claim.task.tenant for claim in claims] == ["one", "two"]

    async def test_ten_thousand_tasks_of_a_full_key_hide_nothing(
        self, deployment: Deployment, broker: Broker, redis: Redis
    ) -> None:
        await deployment.register()
        members = [f"default/t_{n:026}" for n in range(10_000)]
        # They came while the key had room: nobody had claimed any.
        await redis.hset(  # type: ignore[misc]
            broker.keys.terms, mapping=dict.fromkeys(members, "1\n1\ndefault/full\n")
        )
        await redis.zadd(broker.keys.due("a"), dict.fromkeys(members, 1000))
        other = await deployment.enqueue("a")
        looks, taken = 0, []
        while other not in taken:
            claims = await broker.queue.claim(deployment.worker, 2, {"a": 2})
            taken += tasks(claims.taken)
            looks += 1
            # Whoever finds more than one look may move comes again at once.
            assert other in taken or claims.next_due == timedelta()
        assert len(taken) == 2
        assert looks == 10_000 // MOST_CLAIMED
        # From then on a claim does not see them.
        before = (await redis.info("commandstats")).get("cmdstat_zadd", {"calls": 0})["calls"]
        assert await deployment.claim(a=100) == []
        assert (await redis.info("commandstats")).get("cmdstat_zadd", {"calls": 0})["calls"] == before
        assert await broker.queue.depth("a") == 9_999

    async def test_one_that_finds_its_key_full_waits_at_once_and_wakes_nobody(
        self, deployment: Deployment, broker: Broker, redis: Redis
    ) -> None:
        await deployment.register()
        await deployment.enqueue("a", terms=KEY)
        await deployment.claim(a=1)
        await deployment.claim(a=1)
        await deployment.enqueue("a", terms=KEY)
        assert await redis.llen(broker.keys.doorbell("a")) == 0  # type: ignore[misc]
        assert (await broker.queue.backlogs(["a"]))["a"] == (1, 0.0)
        with pytest.raises(QueueFull):
            await broker.queue.enqueue(await deployment.create("a"), "a", limit=1)

    async def test_those_that_wait_come_in_by_class_and_by_age(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=5)
        low = await deployment.enqueue("a", -4, keyed(1, Priority.LOW))
        normal = await deployment.enqueue("a", -3, keyed(1))
        high = await deployment.enqueue("a", -2, keyed(1, Priority.HIGH))
        last = await deployment.enqueue("a", -1, keyed(1))
        assert await deployment.claim(a=5) == []
        came = []
        for _ in range(4):
            await broker.queue.acknowledge(deployment.worker, claim)
            (claim,) = await deployment.claim(a=5)
            came.append(claim.task)
        assert came == [high, normal, last, low]

    async def acknowledged(self, deployment: Deployment, claim: Claim) -> None:
        await deployment.broker.queue.acknowledge(deployment.worker, claim)

    async def retried(self, deployment: Deployment, claim: Claim) -> None:
        await deployment.broker.queue.requeue(deployment.worker, claim, timedelta(hours=1))

    async def left(self, deployment: Deployment, claim: Claim) -> None:
        await deployment.broker.queue.reap(deployment.worker, leaves=True)
        # It comes back to its queue, due at once; not before the others of its key.
        await deployment.broker.queue.withdraw(claim.task, claim.workflow, None)
        await deployment.register()

    async def withdrawn(self, deployment: Deployment, claim: Claim) -> None:
        await deployment.broker.queue.withdraw(claim.task, claim.workflow, deployment.worker)

    async def parked(self, deployment: Deployment, claim: Claim) -> None:
        assert await deployment.broker.parking.park(deployment.worker, claim, None)

    @pytest.mark.parametrize("way", [acknowledged, retried, left, withdrawn, parked], ids=lambda way: way.__name__)
    @pytest.mark.parametrize("workflow", ["a", "b"])
    async def test_each_way_out_lets_the_next_one_in_and_wakes_a_worker(
        self,
        deployment: Deployment,
        broker: Broker,
        redis: Redis,
        way: Callable[["TestKey", Deployment, Claim], Awaitable[None]],
        workflow: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await deployment.register()
        await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=1, b=1)
        # Also where it is another workflow's, whose queue nobody has named.
        next_ = await deployment.enqueue(workflow, terms=KEY)
        assert await deployment.claim(a=1, b=1) == []
        await redis.delete(broker.keys.doorbell("a"), broker.keys.doorbell("b"))
        await way(self, deployment, claim)
        # Half the deadline of a command would end the wait, too.
        monkeypatch.setattr("tailplane.broker.queue.COMMAND_DEADLINE", 7200)
        await asyncio.wait_for(broker.queue.wait([workflow], timedelta(minutes=1)), 20)
        assert tasks(await deployment.claim(a=1, b=1)) == [next_]

    async def test_one_that_was_let_in_and_is_withdrawn_lets_the_next_one_in(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        await deployment.register()
        await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=1)
        second, third = await deployment.enqueue("a", terms=KEY), await deployment.enqueue("a", terms=KEY)
        await broker.queue.acknowledge(deployment.worker, claim)
        await broker.queue.withdraw(second, "a", None)
        assert tasks(await deployment.claim(a=5)) == [third]

    async def test_a_blocked_one_can_be_withdrawn(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=1)
        blocked = await deployment.enqueue("a", terms=KEY)
        await broker.queue.withdraw(blocked, "a", None)
        assert await broker.queue.depth("a") == 0
        await broker.queue.acknowledge(deployment.worker, claim)
        assert await deployment.claim(a=1) == []
        assert await leftovers(broker) == [0, 0, 0, 0]

    async def test_one_workflow_without_workers_does_not_hold_up_another_one_of_the_key(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        await deployment.register()
        await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=1)
        for _ in range(3):
            await deployment.enqueue("abandoned", terms=KEY)
        mine = [await deployment.enqueue("a", n - 9, KEY) for n in range(3)]
        assert await deployment.claim(a=5) == []
        came = []
        for _ in mine:
            await broker.queue.acknowledge(deployment.worker, claim)
            (claim,) = await deployment.claim(a=5)
            came.append(claim.task)
        assert came == mine

    async def test_one_that_comes_back_keeps_its_key(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        first = await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=1)
        second = await deployment.enqueue("a", -1, KEY)
        assert await deployment.claim(a=5) == []
        await broker.queue.requeue(deployment.worker, claim, timedelta())
        (claim,) = await deployment.claim(a=5)
        assert claim.task == second
        await broker.queue.acknowledge(deployment.worker, claim)
        assert tasks(await deployment.claim(a=5)) == [first]

    async def test_a_parked_one_keeps_its_class_and_its_key_and_holds_nothing(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        await deployment.register()
        first = await deployment.enqueue("a", terms=keyed(1, Priority.HIGH))
        (claim,) = await deployment.claim(a=1)
        assert await broker.parking.park(deployment.worker, claim, None)
        assert await broker.parking.park(deployment.worker, claim, None) is False
        second = await deployment.enqueue("a", -60, keyed(1))
        assert await broker.parking.unpark(Parked(first, "a"))
        (claim,) = await deployment.claim(a=5)
        assert claim.task == first
        await broker.queue.acknowledge(deployment.worker, claim)
        (claim,) = await deployment.claim(a=5)
        assert claim.task == second
        assert await broker.parking.park(deployment.worker, claim, None)
        await broker.queue.withdraw(second, "a", None)
        assert await broker.parking.unpark(Parked(second, "a")) is False
        assert await leftovers(broker) == [0, 0, 0, 0]

    async def test_the_newest_limit_counts(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        for limit in (1, 1, 1, 3):
            await deployment.enqueue("a", terms=keyed(limit))
        assert len(await deployment.claim(a=9)) == 3
        await deployment.enqueue("a", terms=keyed(1))
        assert await deployment.claim(a=9) == []

    async def test_a_limit_that_was_raised_lets_more_in(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        for _ in range(5):
            await deployment.enqueue("ab"[_ % 2], terms=keyed(1))
        assert len(await deployment.claim(a=9, b=9)) == 1
        await deployment.enqueue("c", terms=keyed(3))
        assert (await broker.queue.admit(100))[1] == 0
        assert len(await deployment.claim(a=9, b=9, c=9)) == 2
        assert await deployment.claim(a=9, b=9, c=9) == []

    async def test_a_claim_that_the_record_refused_lets_go(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        task = await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=1)
        # Cancelled before it began: whoever cancels it knows of no worker.
        assert await deployment.cancel(task, 0) is State.CANCELLED
        await broker.queue.withdraw(task, "a", None)
        assert await leftovers(broker) == [1, 0, 1, 1]
        await broker.queue.acknowledge(deployment.worker, claim)
        assert await leftovers(broker) == [0, 0, 0, 0]

    async def test_a_worker_that_lost_its_task_takes_nothing_from_who_has_it(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        await deployment.register()
        await deployment.enqueue("a", terms=KEY)
        (claim,) = await deployment.claim(a=1)
        await broker.queue.reap(deployment.worker, leaves=True)
        heir = Deployment(broker)
        await heir.register()
        (taken,) = await heir.claim(a=1)
        await broker.queue.acknowledge(deployment.worker, claim)
        assert await broker.queue.requeue(deployment.worker, claim, timedelta()) is False
        assert taken.task == claim.task
        assert await leftovers(broker) == [1, 0, 1, 1]
        await deployment.enqueue("a", terms=KEY)
        assert await heir.claim(a=1) == []

    async def test_claims_of_several_workers_at_once_never_pass_the_limit(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        workers = [await deployment.register(worker=new_worker_id()) for _ in range(4)]
        for _ in range(200):
            await deployment.enqueue("ab"[_ % 2], terms=keyed(3))
        now, most = Counter[str](), 0

        async def work(worker: str) -> int:
            nonlocal most
            done = 0
            while await broker.queue.depth("a") + await broker.queue.depth("b"):
                claims = (await broker.queue.claim(worker, 2, {"a": 2, "b": 2})).taken  # type: ignore[arg-type]
                now["running"] += len(claims)
                most = max(most, now["running"])
                await asyncio.sleep(0)
                # Counted down before others can have heard of it.
                now["running"] -= len(claims)
                await broker.queue.acknowledge(worker, *claims)  # type: ignore[arg-type]
                done += len(claims)
            return done

        assert sum(await asyncio.gather(*map(work, workers))) == 200
        assert most == 3
        assert await leftovers(broker) == [0, 0, 0, 0]


class TestBound:
    async def test_no_more_of_a_workflow_run_in_the_fleet_than_its_bound(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        workers = [await deployment.register(worker=new_worker_id()) for _ in range(2)]
        for _ in range(6):
            await deployment.enqueue("a")
        others = await deployment.enqueue("b")
        room = {"a": Room(5, 3), "b": Room(5)}
        (*mine, other) = (await broker.queue.claim(workers[0], 9, room)).taken
        assert len(mine) == 3
        assert other.task == others
        assert (await broker.queue.claim(workers[1], 9, room)).taken == []
        await broker.queue.acknowledge(workers[0], *mine[:2])
        assert len((await broker.queue.claim(workers[1], 9, room)).taken) == 2
        assert (await broker.queue.claim(workers[0], 9, room)).taken == []
        await broker.queue.reap(workers[1], leaves=True)
        assert len((await broker.queue.claim(workers[0], 9, room)).taken) == 2

    async def test_a_place_that_comes_free_wakes_a_worker(
        self, deployment: Deployment, broker: Broker, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await deployment.register()
        for _ in range(3):
            await deployment.enqueue("a")
        room = {"a": Room(5, 1)}
        (claim,) = (await broker.queue.claim(deployment.worker, 9, room)).taken
        # Or all workers would look again and again for as long as there are tokens.
        assert (await broker.queue.claim(deployment.worker, 9, room)).taken == []
        assert await redis.llen(broker.keys.doorbell("a")) == 0  # type: ignore[misc]
        await broker.queue.acknowledge(deployment.worker, claim)
        # Half the deadline of a command would end the wait, too.
        monkeypatch.setattr("tailplane.broker.queue.COMMAND_DEADLINE", 7200)
        await asyncio.wait_for(broker.queue.wait(["a"], timedelta(minutes=1)), 20)
        assert await leftovers(broker) == [0, 0, 0, 0]
