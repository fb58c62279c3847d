"""The worker's arq: claims what is due, starts it in a slot, and is woken by the doorbell."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import structlog
from redis.asyncio import Redis

from tailplane.broker import PLAIN, Broker, Claim, NewTask, TaskRef, Terms, WorkerRecord, connect
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.ids import new_task_id, new_worker_id
from tailplane.workers import Workflow
from tailplane.workers import queue as queue_module
from tailplane.workers.queue import ArqRedis, LeasedWorker
from tailplane.workers.workflow import Options

from .conftest import LEASE, PATIENCE

HOUR = timedelta(hours=1)


async def wide(ctx: object) -> None: ...
async def narrow(ctx: object) -> None: ...


WORKFLOWS = [Workflow(wide), Workflow(narrow, Options(concurrency=1))]


@dataclass
class Floor:
    """Where claimed tasks run until the test lets them go."""

    broker: Broker
    worker_id: str = field(default_factory=new_worker_id)
    started: list[Claim] = field(default_factory=list)
    gates: dict[TaskRef, asyncio.Event] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    holds: bool = False
    raises: bool = False

    async def run(self, claim: Claim) -> None:
        self.started.append(claim)
        self.running[claim.workflow] += 1
        self.most[claim.workflow] = max(self.most[claim.workflow], self.running[claim.workflow])
        self.most["all"] = max(self.most["all"], self.running.total())
        try:
            if self.holds:
                await self.gates.setdefault(claim.task, asyncio.Event()).wait()
            if self.raises:
                raise LookupError("by the test")
            await self.broker.queue.acknowledge(self.worker_id, claim)  # type: ignore[arg-type]
        finally:
            self.running[claim.workflow] -= 1

    def let_go(self) -> None:
        self.holds = False
        for gate in self.gates.values():
            gate.set()

    async def register(self) -> None:
        me = WorkerRecord(self.worker_id, "host-1", 1, "0", [], 10, started_at=0)  # type: ignore[arg-type]
        await self.broker.queue.register(me, [], LEASE)

    async def enqueue(self, workflow: str = "wide", delay: timedelta = timedelta(), terms: Terms = PLAIN) -> TaskRef:
        task = TaskRef(new_task_id())
        await self.broker.tasks.create(NewTask(task, workflow, "1", b"\xc0", terms=terms))
        await self.broker.queue.enqueue(task, workflow, delay=delay, terms=terms)
        return task

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.002)


@pytest.fixture
async def floor(server: EmbeddedServer, prefix: str) -> AsyncIterator[Floor]:
    client = connect(server.url, ArqRedis)
    floor = Floor(Broker.over(client, prefix=prefix, retention=HOUR, start_within=HOUR))
    await floor.register()
    yield floor
    await client.aclose(close_connection_pool=True)


def leased(
    floor: Floor, concurrency: int = 4, poll_every: timedelta = LEASE, workflows: Sequence[Workflow] = WORKFLOWS
) -> LeasedWorker:
    return LeasedWorker(
        floor.broker,
        floor.worker_id,  # type: ignore[arg-type]
        workflows,
        floor.run,
        concurrency=concurrency,
        poll_every=poll_every,
    )


@pytest.fixture
async def worker(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LeasedWorker]:
    """A worker that claims, and polls too seldom to find anything that nothing tells it of."""
    # Half the deadline of a command would wake it, too.
    for module in ("queue", "wire"):
        monkeypatch.setattr(f"tailplane.broker.{module}.COMMAND_DEADLINE", 7200)
    async with at_work(floor, leased(floor)) as worker:
        yield worker


@asynccontextmanager
async def at_work(floor: Floor, worker: LeasedWorker) -> AsyncIterator[LeasedWorker]:
    """Let a worker claim while a block runs."""
    main = asyncio.ensure_future(worker.main())
    yield worker
    assert not main.done() or not worker.allow_pick_jobs, "the worker broke off"
    worker.pause()
    main.cancel()
    await asyncio.gather(main, return_exceptions=True)
    floor.let_go()
    await floor.until(lambda: not worker.tasks)


async def test_what_is_queued_is_started(floor: Floor, worker: LeasedWorker) -> None:
    tasks = [await floor.enqueue() for _ in range(10)]
    await floor.until(lambda: len(floor.started) == 10)
    # Those of one millisecond in any order.
    assert {claim.task for claim in floor.started} == set(tasks)
    await floor.until(lambda: not worker.tasks)
    assert await floor.broker.queue.held(floor.worker_id) == {}  # type: ignore[arg-type]


async def test_the_doorbell_wakes_an_idle_worker(floor: Floor, worker: LeasedWorker, redis: Redis) -> None:
    for _ in range(3):
        async with asyncio.timeout(PATIENCE):
            while (await redis.info("clients"))["blocked_clients"] == 0:
                await asyncio.sleep(0.002)
        before = len(floor.started)
        await floor.enqueue()
        await floor.until(lambda before=before: len(floor.started) > before)


async def test_no_more_run_than_there_are_slots(floor: Floor, worker: LeasedWorker) -> None:
    floor.holds = True
    for _ in range(10):
        await floor.enqueue()
    await floor.until(lambda: len(floor.started) == 4)
    assert len(await floor.broker.queue.held(floor.worker_id)) == 4  # type: ignore[arg-type]
    floor.let_go()
    await floor.until(lambda: len(floor.started) == 10)
    assert floor.most["all"] == 4


async def test_no_more_of_a_workflow_run_than_it_allows(floor: Floor, worker: LeasedWorker) -> None:
    floor.holds = True
    for _ in range(3):
        await floor.enqueue("narrow")
    await floor.until(lambda: len(floor.started) == 1)
    # The full workflow does not hold up the other, whose tasks came later.
    for _ in range(3):
        await floor.enqueue("wide")
    await floor.until(lambda: len(floor.started) == 4)
    assert floor.running == {"narrow": 1, "wide": 3}
    floor.let_go()
    await floor.until(lambda: len(floor.started) == 6)
    assert floor.most["narrow"] == 1


async def test_the_end_of_a_task_makes_room_at_once_in_a_workflow_that_is_full(
    floor: Floor, worker: LeasedWorker
) -> None:
    floor.holds = True
    first, _ = await floor.enqueue("narrow"), await floor.enqueue("narrow")
    await floor.until(lambda: len(floor.started) == 1)
    # No doorbell tells of it.
    floor.gates[first].set()
    await floor.until(lambda: len(floor.started) == 2)


async def test_a_delayed_task_is_started_when_it_is_due(floor: Floor, worker: LeasedWorker) -> None:
    await floor.enqueue(delay=timedelta(milliseconds=150))
    await floor.until(lambda: len(floor.started) == 1)
    (claim,) = floor.started
    assert claim.waited >= timedelta()


async def test_without_the_doorbell_a_poll_finds_it(floor: Floor, redis: Redis) -> None:
    worker = leased(floor, poll_every=timedelta(milliseconds=50))
    main = asyncio.ensure_future(worker.main())
    async with asyncio.timeout(PATIENCE):
        while (await redis.info("clients"))["blocked_clients"] == 0:
            await asyncio.sleep(0.002)
    task = TaskRef(new_task_id())
    await floor.broker.tasks.create(NewTask(task, "wide", "1", b"\xc0"))
    await redis.zadd(floor.broker.keys.due("wide"), {task.member: 1})
    await floor.until(lambda: len(floor.started) == 1)
    main.cancel()
    await asyncio.gather(main, return_exceptions=True)


async def test_a_paused_worker_claims_nothing_and_lets_what_runs_run_on(floor: Floor) -> None:
    worker = leased(floor, poll_every=timedelta(milliseconds=50))
    main = asyncio.ensure_future(worker.main())
    floor.holds = True
    await floor.enqueue()
    await floor.until(lambda: len(floor.started) == 1)
    worker.pause()
    await asyncio.wait_for(main, PATIENCE)
    await floor.enqueue()
    assert len(floor.started) == floor.running.total() == 1
    floor.let_go()
    await floor.until(lambda: not worker.tasks)


async def test_an_attempt_that_breaks_off_frees_its_slot(floor: Floor, worker: LeasedWorker) -> None:
    floor.raises = True
    with structlog.testing.capture_logs() as logs:
        for _ in range(6):
            await floor.enqueue()
        await floor.until(lambda: len(floor.started) == 6 and not worker.tasks)
    assert [log["event"] for log in logs] == ["a task's attempt broke off"] * 6
    assert worker.job_counter == 0


async def test_a_worker_without_a_lease_waits_for_one(
    floor: Floor, worker: LeasedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_STORE_PAUSE", 0.01)
    await floor.broker.queue.reap(floor.worker_id, leaves=True)  # type: ignore[arg-type]
    await floor.enqueue()
    await asyncio.sleep(0.1)
    assert floor.started == []
    await floor.register()
    await floor.until(lambda: len(floor.started) == 1)


async def test_a_worker_survives_the_loss_of_its_connections(
    floor: Floor, worker: LeasedWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_STORE_PAUSE", 0.01)
    for count in range(1, 4):
        async with asyncio.timeout(PATIENCE):
            while (await redis.info("clients"))["blocked_clients"] == 0:
                await asyncio.sleep(0.002)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await floor.enqueue()
        await floor.until(lambda count=count: len(floor.started) == count)


async def test_a_workflow_s_bound_over_all_workers_is_kept_and_each_end_makes_room(floor: Floor) -> None:
    workflows = [Workflow(wide, Options(max_running=2)), Workflow(narrow)]
    async with at_work(floor, leased(floor, workflows=workflows)):
        floor.holds = True
        for _ in range(5):
            await floor.enqueue()
        await floor.until(lambda: floor.running["wide"] == 2)
        # There is a place for others.
        await floor.enqueue("narrow")
        await floor.until(lambda: floor.running["narrow"] == 1)
        floor.let_go()
        await floor.until(lambda: len(floor.started) == 6)
    assert floor.most["wide"] == 2


async def test_tasks_of_a_full_key_wait_and_their_turn_comes_without_a_look(floor: Floor, worker: LeasedWorker) -> None:
    terms = Terms(concurrency_key="key", concurrency_limit=2)
    for _ in range(10):
        await floor.enqueue(terms=terms)
    await floor.until(lambda: len(floor.started) == 10)
    assert floor.most["wide"] <= 2


async def test_a_worker_that_finds_more_than_one_look_may_block_looks_on(floor: Floor, redis: Redis) -> None:
    keys, members = floor.broker.keys, [f"default/t_{n:026}" for n in range(1200)]
    await redis.hset(keys.terms, mapping=dict.fromkeys(members, "1\n1\ndefault/key\n"))  # type: ignore[misc]
    await redis.zadd(keys.due("wide"), dict.fromkeys(members, 1000))
    floor.holds = True
    task = await floor.enqueue()
    async with at_work(floor, leased(floor)):
        await floor.until(lambda: len(floor.started) == 2)
    assert task in {claim.task for claim in floor.started}
