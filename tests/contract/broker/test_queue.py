"""enqueue.lua, claim.lua, requeue.lua: a task is in one place, and goes to one worker."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Claim, Enqueued, LeaseLapsed, Request, TaskRef
from tailplane.broker.claims import MOST_CLAIMED
from tailplane.broker.wire import Wire
from tailplane.protocol.errors import QueueFull, SessionClosed, SessionNotFound, StoreUnavailable
from tailplane.protocol.ids import TaskId, WorkerId, new_session_id, new_task_id, new_worker_id

from .conftest import LAPSED, LEASE, Deployment


def ids(claims: list[Claim]) -> list[TaskId]:
    return [claim.task.task_id for claim in claims]


async def places(deployment: Deployment, task: TaskRef, workflow: str = "echo") -> list[str]:
    """Return where a task is in the queue."""
    broker = deployment.broker
    due = await broker.redis.zscore(broker.keys.due(workflow), task.member) is not None
    running = await broker.redis.hexists(broker.keys.running(deployment.worker), task.member)  # type: ignore[misc]
    return ["due"] * due + ["running"] * bool(running)


async def test_a_queued_task_goes_to_the_worker_that_claims(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    assert await places(deployment, task) == ["due"]
    (claim,) = await deployment.claim()
    assert (claim.task, claim.workflow) == (task, "echo")
    assert timedelta() <= claim.waited < timedelta(minutes=1)
    assert await places(deployment, task) == ["running"]
    assert await broker.queue.held(deployment.worker) == {task: "echo"}
    assert await deployment.claim() == []


async def test_the_longest_due_comes_first_across_workflows(deployment: Deployment) -> None:
    await deployment.register()
    due = {"a": [-5, -1], "b": [-4, -3], "c": [-2]}
    tasks = {
        (await deployment.enqueue(name, seconds)).task_id: seconds for name, times in due.items() for seconds in times
    }
    claimed = await deployment.claim(a=2, b=2, c=2)
    assert [tasks[each] for each in ids(claimed)] == [-5, -4, -3, -2, -1]
    assert [round(claim.waited.total_seconds()) for claim in claimed] == [5, 4, 3, 2, 1]


async def test_tasks_due_at_once_come_in_the_order_of_their_ids(deployment: Deployment, redis: Redis) -> None:
    await deployment.register()
    tasks = [await deployment.enqueue(name) for name in ("b", "a", "b", "a")]
    for name in ("a", "b"):
        due = deployment.broker.keys.due(name)
        await redis.zadd(due, dict.fromkeys(await redis.zrange(due, 0, -1), 1000))
    assert ids(await deployment.claim(a=4, b=4)) == sorted(task.task_id for task in tasks)


async def test_no_more_are_claimed_than_there_are_slots(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    tasks = [await deployment.enqueue("ab"[n % 2], n - 10) for n in range(10)]
    claims = await broker.queue.claim(deployment.worker, 3, {"a": 3, "b": 3})
    assert ids(claims.taken) == [task.task_id for task in tasks[:3]]
    assert [await places(deployment, task, "ab"[n % 2]) for n, task in enumerate(tasks)] == [["running"]] * 3 + [
        ["due"]
    ] * 7


async def test_no_more_are_claimed_of_a_workflow_than_it_has_room_for(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    for n in range(5):
        await deployment.enqueue("narrow", n - 10)
        await deployment.enqueue("wide", n - 5)
    claims = await broker.queue.claim(deployment.worker, 100, {"narrow": 2, "wide": 100, "full": 0})
    assert Counter(claim.workflow for claim in claims.taken) == {"narrow": 2, "wide": 5}
    claims = await broker.queue.claim(deployment.worker, 100, {"narrow": 0, "wide": 100})
    assert claims.taken == []


async def test_a_full_workflow_does_not_hold_up_the_others(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    for n in range(20):
        await deployment.enqueue("narrow", -100 + n)
    wide = await deployment.enqueue("wide", -1)
    claims = await broker.queue.claim(deployment.worker, 5, {"narrow": 1, "wide": 5})
    assert [claim.workflow for claim in claims.taken] == ["narrow", "wide"]
    assert claims.taken[1].task == wide


async def test_what_is_not_due_yet_is_not_claimed_but_announced(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    later, sooner = await deployment.enqueue("a", 600), await deployment.enqueue("b", 300)
    claims = await broker.queue.claim(deployment.worker, 10, {"a": 10, "b": 10})
    assert claims.taken == []
    assert claims.next_due is not None
    assert timedelta(seconds=200) < claims.next_due <= timedelta(seconds=300)
    assert await places(deployment, later, "a") == await places(deployment, sooner, "b") == ["due"]


async def test_an_empty_queue_announces_nothing(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    assert (await broker.queue.claim(deployment.worker, 10, {"echo": 10})).next_due is None


async def test_a_worker_without_a_lease_claims_nothing(deployment: Deployment) -> None:
    task = await deployment.enqueue()
    with pytest.raises(LeaseLapsed):
        await deployment.claim()
    await deployment.register(lease=LAPSED)
    with pytest.raises(LeaseLapsed):
        await deployment.claim()
    assert await places(deployment, task) == ["due"]
    await deployment.register()
    assert ids(await deployment.claim()) == [task.task_id]


async def test_claims_of_several_workers_at_once_are_disjoint(deployment: Deployment, broker: Broker) -> None:
    tasks = [await deployment.enqueue("ab"[n % 2]) for n in range(200)]
    workers = [await deployment.register(worker=new_worker_id()) for _ in range(4)]
    claimed: dict[WorkerId, list[TaskId]] = {worker: [] for worker in workers}

    async def work(worker: WorkerId) -> None:
        while taken := (await broker.queue.claim(worker, 3, {"a": 2, "b": 2})).taken:
            claimed[worker] += ids(taken)

    await asyncio.gather(*(work(worker) for worker in workers))
    assert Counter(each for of_one in claimed.values() for each in of_one) == Counter(task.task_id for task in tasks)
    for worker in workers:
        assert sorted(task.task_id for task in await broker.queue.held(worker)) == sorted(claimed[worker])


async def test_an_acknowledged_task_is_nowhere(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    (claim,) = await deployment.claim()
    for _ in range(2):
        await broker.queue.acknowledge(deployment.worker, claim)
        assert await places(deployment, task) == []


async def test_many_are_acknowledged_at_once(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    for _ in range(3):
        await deployment.enqueue()
    claims = await deployment.claim()
    await broker.queue.acknowledge(deployment.worker, *claims[:2])
    assert await broker.queue.held(deployment.worker) == {claims[2].task: "echo"}


async def test_one_claim_takes_a_bounded_number(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    members = {f"default/{new_task_id()}": 1 for _ in range(MOST_CLAIMED + 10)}
    await broker.queue.wire.run("ZADD", broker.keys.due("echo"), *(item for member in members for item in (1, member)))
    assert len(await deployment.claim(echo=100_000)) == MOST_CLAIMED
    assert len(await deployment.claim(echo=100_000)) == 10
    assert {task.member for task in await broker.queue.held(deployment.worker)} == members.keys()


async def test_a_requeued_task_can_be_claimed_again(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    (claim,) = await deployment.claim()
    assert await broker.queue.requeue(deployment.worker, claim, timedelta()) is True
    assert await places(deployment, task) == ["due"]
    assert ids(await deployment.claim()) == [task.task_id]


async def test_a_requeued_task_is_due_after_its_delay(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    await deployment.enqueue()
    (claim,) = await deployment.claim()
    await broker.queue.requeue(deployment.worker, claim, timedelta(minutes=5))
    claims = await broker.queue.claim(deployment.worker, 1, {"echo": 1})
    assert claims.taken == []
    assert claims.next_due is not None
    assert timedelta(minutes=4) < claims.next_due <= timedelta(minutes=5)


async def test_a_task_that_the_worker_holds_no_more_is_not_requeued(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    (claim,) = await deployment.claim()
    await broker.queue.withdraw(task, "echo", deployment.worker)
    assert await broker.queue.requeue(deployment.worker, claim, timedelta()) is False
    assert await places(deployment, task) == []


async def test_requeued_twice_it_is_queued_once(deployment: Deployment, broker: Broker) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    (claim,) = await deployment.claim()
    outcome = await asyncio.gather(*(broker.queue.requeue(deployment.worker, claim, timedelta()) for _ in range(5)))
    assert sorted(outcome) == [False] * 4 + [True]
    assert await places(deployment, task) == ["due"]


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_withdrawn_task_is_nowhere(deployment: Deployment, broker: Broker, claimed: bool) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    if claimed:
        await deployment.claim()
    await broker.queue.withdraw(task, "echo", deployment.worker if claimed else None)
    assert await places(deployment, task) == []


async def test_a_claim_whose_reply_is_lost_leaves_the_tasks_with_the_worker(
    deployment: Deployment, broker: Broker, lossy_broker: Broker, lose_next_reply: Callable[[], None]
) -> None:
    await deployment.register()
    task = await deployment.enqueue()
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await lossy_broker.queue.claim(deployment.worker, 1, {"echo": 1})
    assert await broker.queue.held(deployment.worker) == {task: "echo"}


class TestRequests:
    async def test_the_same_key_queues_one_task(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        first, second = await deployment.create(), await deployment.create()
        request = Request("key", "content")
        assert await broker.queue.enqueue(first, "echo", request=request) == Enqueued(first.task_id, "content", 1)
        assert await broker.queue.enqueue(second, "echo", request=request) == Enqueued(first.task_id, "content", None)
        assert ids(await deployment.claim()) == [first.task_id]

    async def test_another_request_with_that_key_is_told_what_came_first(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        first, second = await deployment.create(), await deployment.create()
        await broker.queue.enqueue(first, "echo", request=Request("key", "one"))
        known = await broker.queue.enqueue(second, "other", request=Request("key", "two"))
        assert known == Enqueued(first.task_id, "one", None)
        assert await places(deployment, second, "other") == []

    async def test_other_keys_are_other_requests(self, deployment: Deployment, broker: Broker) -> None:
        tasks = [await deployment.create() for _ in range(3)]
        for number, task in enumerate(tasks):
            made = await broker.queue.enqueue(task, "echo", request=Request(f"key {number}", "same"))
            assert made == Enqueued(task.task_id, "same", number + 1)

    async def test_a_request_sent_again_after_a_lost_reply_queues_one_task(
        self, deployment: Deployment, lossy_broker: Broker, lose_next_reply: Callable[[], None]
    ) -> None:
        await deployment.register()
        task, request = await deployment.create(), Request("key", "content")
        lose_next_reply()
        with pytest.raises(StoreUnavailable):
            await lossy_broker.queue.enqueue(task, "echo", request=request)
        again = await lossy_broker.queue.enqueue(task, "echo", request=request)
        assert again == Enqueued(task.task_id, "content", None)
        assert ids(await deployment.claim()) == [task.task_id]

    async def test_of_many_at_once_one_is_queued(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        tasks = [await deployment.create() for _ in range(20)]
        made = await asyncio.gather(
            *(broker.queue.enqueue(task, "echo", request=Request("key", "content")) for task in tasks)
        )
        assert len({each.task_id for each in made}) == 1
        assert ids(await deployment.claim()) == [made[0].task_id]

    async def test_a_key_is_one_tenant_s(self, deployment: Deployment, broker: Broker) -> None:
        request = Request("key", "content")
        mine = TaskRef(new_task_id())
        theirs = TaskRef(new_task_id(), "other")
        assert (await broker.queue.enqueue(mine, "echo", request=request)).task_id == mine.task_id
        assert (await broker.queue.enqueue(theirs, "echo", request=request)).task_id == theirs.task_id

    async def test_a_refused_request_is_not_remembered(self, deployment: Deployment, broker: Broker) -> None:
        task, request, session = await deployment.create(), Request("key", "content"), new_session_id()
        with pytest.raises(SessionNotFound):
            await broker.queue.enqueue(task, "echo", session=session, request=request)
        assert (await broker.queue.enqueue(task, "echo", request=request)).task_id == task.task_id


class TestBound:
    async def test_of_many_at_once_so_many_are_taken_as_may_wait(self, deployment: Deployment, broker: Broker) -> None:
        tasks = [await deployment.create() for _ in range(50)]
        enqueues = [broker.queue.enqueue(task, "echo", limit=10) for task in tasks]
        made = await asyncio.gather(*enqueues, return_exceptions=True)
        assert sorted(each.depth or 0 for each in made if isinstance(each, Enqueued)) == list(range(1, 11))
        refused = [each for each in made if isinstance(each, QueueFull)]
        assert [(each.depth, each.limit, each.facts["workflow"]) for each in refused] == [(10, 10, "echo")] * 40
        assert await broker.queue.depth("echo") == 10

    async def test_a_refused_task_leaves_nothing_in_the_queue(
        self, deployment: Deployment, broker: Broker, redis: Redis
    ) -> None:
        session = (await broker.catalogue.create_session("default", {})).session_id
        await deployment.enqueue()
        task = await deployment.create()
        before = {key: await redis.dump(key) async for key in redis.scan_iter(f"{broker.keys.prefix}:*")}
        with pytest.raises(QueueFull):
            await broker.queue.enqueue(task, "echo", session=session, request=Request("key", "content"), limit=1)
        after = {key: await redis.dump(key) async for key in redis.scan_iter(f"{broker.keys.prefix}:*")}
        assert after == before

    async def test_a_refused_request_is_not_remembered(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        await deployment.enqueue()
        task, request = await deployment.create(), Request("key", "content")
        with pytest.raises(QueueFull):
            await broker.queue.enqueue(task, "echo", request=request, limit=1)
        await deployment.claim()
        again = await broker.queue.enqueue(task, "echo", request=request, limit=1)
        assert again == Enqueued(task.task_id, "content", 1)

    async def test_a_known_request_is_answered_when_the_queue_is_full(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        first, second, request = await deployment.create(), await deployment.create(), Request("key", "content")
        await broker.queue.enqueue(first, "echo", request=request, limit=1)
        known = await broker.queue.enqueue(second, "echo", request=request, limit=1)
        assert known == Enqueued(first.task_id, "content", None)

    async def test_queues_are_bounded_one_by_one(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.enqueue("a")
        assert (await broker.queue.enqueue(await deployment.create("b"), "b", limit=1)).depth == 1

    async def test_tasks_that_are_not_due_yet_count(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.enqueue(due=600)
        with pytest.raises(QueueFull):
            await broker.queue.enqueue(await deployment.create(), "echo", limit=1)

    async def test_what_comes_back_is_not_refused(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        await deployment.enqueue()
        (claim,) = await deployment.claim()
        await broker.queue.enqueue(await deployment.create(), "echo", limit=1)
        assert await broker.queue.requeue(deployment.worker, claim, timedelta())
        assert await broker.queue.depth("echo") == 2


class TestSessions:
    async def test_an_open_session_takes_tasks(self, deployment: Deployment, broker: Broker) -> None:
        session = (await broker.catalogue.create_session("default", {})).session_id
        task = await deployment.create()
        await broker.queue.enqueue(task, "echo", session=session)
        assert await places(deployment, task) == ["due"]
        assert await broker.catalogue.task_ids("default", session, None, 10) == [task.task_id]

    async def test_a_closed_session_takes_none(self, deployment: Deployment, broker: Broker) -> None:
        session = (await broker.catalogue.create_session("default", {})).session_id
        await broker.catalogue.close_session("default", session)
        task = await deployment.create()
        with pytest.raises(SessionClosed):
            await broker.queue.enqueue(task, "echo", session=session)
        assert await places(deployment, task) == []
        assert await broker.catalogue.task_ids("default", None, None, 10) == []

    async def test_a_session_that_is_not_there_takes_none(
        self, deployment: Deployment, broker: Broker, redis: Redis
    ) -> None:
        session, task = new_session_id(), await deployment.create()
        with pytest.raises(SessionNotFound):
            await broker.queue.enqueue(task, "echo", session=session)
        assert await places(deployment, task) == []
        assert await redis.exists(broker.keys.session_tasks("default", session)) == 0

    async def test_another_tenant_s_session_is_not_there(self, deployment: Deployment, broker: Broker) -> None:
        session = (await broker.catalogue.create_session("other", {})).session_id
        with pytest.raises(SessionNotFound):
            await broker.queue.enqueue(await deployment.create(), "echo", session=session)

    async def test_a_new_task_keeps_a_session_alive(self, deployment: Deployment, broker: Broker, redis: Redis) -> None:
        session = (await broker.catalogue.create_session("default", {})).session_id
        await redis.pexpire(broker.keys.session("default", session), 60_000)
        await broker.queue.enqueue(await deployment.create(), "echo", session=session)
        assert await redis.pttl(broker.keys.session("default", session)) > 3_600_000
        assert await redis.pttl(broker.keys.session_tasks("default", session)) > 3_600_000


class TestDoorbell:
    @pytest.fixture(autouse=True)
    def nothing_else_wakes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half the deadline of a command ends a wait, too: here that is an hour."""
        for module in ("queue", "wire"):
            monkeypatch.setattr(f"tailplane.broker.{module}.COMMAND_DEADLINE", 7200)

    async def blocked(self, redis: Redis, count: int) -> None:
        """Return when `count` clients of the server wait for a doorbell."""
        async with asyncio.timeout(10):
            while (await redis.info("clients"))["blocked_clients"] != count:
                await asyncio.sleep(0.002)

    async def test_a_queued_task_wakes_a_waiter(self, deployment: Deployment, broker: Broker, redis: Redis) -> None:
        waiting = asyncio.ensure_future(broker.queue.wait(["a", "b"], LEASE))
        await self.blocked(redis, 1)
        await deployment.enqueue("b")
        await asyncio.wait_for(waiting, 20)

    async def test_a_task_that_was_queued_before_is_heard_too(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.enqueue("a")
        await asyncio.wait_for(broker.queue.wait(["a"], LEASE), 20)

    async def test_one_task_wakes_one_waiter(self, deployment: Deployment, broker: Broker, redis: Redis) -> None:
        # Of three workers: one waits on one connection.
        queues = [replace(broker.queue, bells=Wire(redis)) for _ in range(3)]
        waiting = [asyncio.ensure_future(queue.wait(["a"], LEASE)) for queue in queues]
        await self.blocked(redis, 3)
        await deployment.enqueue("a")
        done, still = await asyncio.wait(waiting, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(still)) == (1, 2)
        await deployment.enqueue("a")
        await deployment.enqueue("a")
        await asyncio.wait_for(asyncio.gather(*still), 20)

    async def test_a_requeued_and_a_reaped_task_ring_too(self, deployment: Deployment, broker: Broker) -> None:
        await deployment.register()
        await deployment.enqueue("a")
        (claim,) = await deployment.claim(a=1)
        # The claim that finds nothing more takes the bell's old token away.
        assert await deployment.claim(a=1) == []
        await broker.queue.requeue(deployment.worker, claim, timedelta())
        await asyncio.wait_for(broker.queue.wait(["a"], LEASE), 20)
        await deployment.claim(a=1)
        await deployment.claim(a=1)
        await broker.queue.reap(deployment.worker, leaves=True)
        await asyncio.wait_for(broker.queue.wait(["a"], LEASE), 20)

    async def test_a_bell_nobody_hears_stays_small(self, deployment: Deployment, broker: Broker, redis: Redis) -> None:
        await redis.lpush(broker.keys.doorbell("a"), *["1"] * 999)  # type: ignore[misc]
        for _ in range(3):
            await deployment.enqueue("a")
        assert await redis.llen(broker.keys.doorbell("a")) == 1000  # type: ignore[misc]
        assert 0 < await redis.ttl(broker.keys.doorbell("a")) <= 60

    async def test_a_wait_that_is_cancelled_takes_no_token(self, broker: Broker, redis: Redis) -> None:
        waiting = asyncio.ensure_future(broker.queue.wait(["a"], LEASE))
        await self.blocked(redis, 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        await self.blocked(redis, 0)
        await redis.lpush(broker.keys.doorbell("a"), "1")  # type: ignore[misc]
        await asyncio.wait_for(broker.queue.wait(["a"], LEASE), 20)

    async def test_silence_ends_the_wait(self, broker: Broker) -> None:
        await asyncio.wait_for(broker.queue.wait(["a"], timedelta(milliseconds=50)), 20)

    async def test_a_long_wait_is_cut_before_redis_counts_as_away(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tailplane.broker.queue.COMMAND_DEADLINE", 0.2)
        await asyncio.wait_for(broker.queue.wait(["a"], LEASE), 20)
