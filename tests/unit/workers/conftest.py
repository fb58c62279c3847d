"""One worker process in parts: a loop for workflows on a thread of its own, and the platform on the test's loop."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tailplane.broker import Append, Begun, Broker, Claim, NewTask, TaskRecord, TaskRef, WorkerRecord
from tailplane.broker.records import BEGUN_FIELDS, running_record
from tailplane.protocol import codec
from tailplane.protocol.errors import TailplaneError
from tailplane.protocol.events import Event, join_events, pack_event, unpack_payload
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.workers import Workflow
from tailplane.workers.acknowledgements import Acknowledgements
from tailplane.workers.attempt import Attempt
from tailplane.workers.budget import Budget
from tailplane.workers.context import Context
from tailplane.workers.emitter import Emitter, Hooks, Limits
from tailplane.workers.kept import Kept
from tailplane.workers.platform_side import Platform
from tailplane.workers.runner import Outcome, Run, Runner
from tailplane.workers.stream_bells import StreamBells
from tailplane.workers.workflow import Options
from tailplane.workers.writer import Writer

#: Generous: a test that hangs for so long has failed, and none that passes comes near it.
PATIENCE = 20.0
LIMITS = Limits(event=64 * 1024, entry=16 * 1024, task=1024 * 1024, emit=128 * 1024)
LEASE = timedelta(minutes=10)
#: The worker whose parts these are.
WORKER = new_worker_id()


@pytest.fixture
def workflows_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs on a thread of its own, as that of a worker's workflows does."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="workflows")
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    loop.close()


@pytest.fixture
def runner(workflows_loop: asyncio.AbstractEventLoop) -> Iterator[Runner]:
    runner = Runner(workflows_loop, threads=8, max_result_bytes=64 * 1024)
    yield runner
    runner.close()


def kept_over(broker: Broker, most: int = 1024 * 1024) -> Kept:
    return Kept(broker.log, broker.tasks, WORKER, most)


@pytest.fixture
async def writer(broker: Broker) -> AsyncIterator[Writer]:
    """A writer that runs."""
    writer = Writer(broker.log, kept_over(broker))
    task = asyncio.ensure_future(writer.run())
    yield writer
    assert not task.done(), "the writer broke off"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@dataclass
class Bench:
    """Runs attempts of tasks, one after the other, with everything real but the worker's main loop."""

    platform: Platform
    workflows: dict[str, Workflow] = field(default_factory=dict)

    @property
    def broker(self) -> Broker:
        return self.platform.broker

    def workflow(self, function: Callable[..., Any], **options: Any) -> Workflow:
        made = Workflow(function, Options(**options))
        self.workflows[made.name] = made
        return made

    async def submit(self, workflow: Workflow, value: object = None, broker: Broker | None = None) -> TaskRef:
        """Queue a task, and register the worker that will claim it."""
        broker = broker or self.broker
        task = TaskRef(new_task_id())
        await broker.tasks.create(NewTask(task, workflow.name, workflow.version, codec.pack(value)))
        await broker.queue.enqueue(task, workflow.name)
        await self.register()
        return task

    async def register(self) -> None:
        me = WorkerRecord(self.platform.worker, "host-1", 1, "0", [], 1, started_at=0)
        await self.broker.queue.register(me, [], LEASE)

    async def claim(self, workflow: Workflow) -> Claim:
        """Claim the next task of a workflow, whenever it is due."""
        queue, worker = self.broker.queue, self.platform.worker
        async with asyncio.timeout(PATIENCE):
            while not (claims := await queue.claim(worker, 1, {workflow.name: 1})).taken:
                await queue.wait([workflow.name], claims.next_due or timedelta(seconds=1))
        return claims.taken[0]

    async def attempt(self, workflow: Workflow) -> Attempt:
        """Claim a task and make its next attempt, ready to `run`."""
        return Attempt(self.platform, await self.claim(workflow), workflow)

    async def run(self, workflow: Workflow) -> Attempt:
        """Claim a task and run its next attempt to the end."""
        attempt = await self.attempt(workflow)
        async with asyncio.timeout(PATIENCE):
            await attempt.run()
        return attempt

    async def record(self, task: TaskRef) -> TaskRecord:
        return await self.broker.tasks.read(task)

    async def events(self, task: TaskRef) -> list[Event]:
        (entries,) = await self.broker.log.read_after([(task, EntryId(0, 0), 100_000)])
        return [event for entry in entries for event in unpack_payload(entry.id, entry.payload)]

    async def said(self, task: TaskRef) -> list[object]:
        """Return what the stream says: types of what the platform said, data of what the workflow did."""
        return [event.type if event.kind == "platform" else event.data for event in await self.events(task)]

    async def places(self, task: TaskRef, workflow: Workflow) -> list[str]:
        """Return where the task is in the queue."""
        keys, redis = self.broker.keys, self.broker.redis
        due = await redis.zscore(keys.due(workflow.name), task.member) is not None
        return ["due"] * due + ["running"] * (task in await self.broker.queue.held(self.platform.worker))


def platform_over(broker: Broker, writer: Writer, runner: Runner) -> Platform:
    return Platform(
        broker=broker,
        acknowledgements=Acknowledgements(broker.queue, WORKER),
        writer=writer,
        kept=kept_over(broker),
        runner=runner,
        worker=WORKER,
        host="host-1",
        limits=LIMITS,
        budget=Budget(1024 * 1024),
        stop_grace=timedelta(milliseconds=200),
        park_after=timedelta(milliseconds=100),
        bells=StreamBells(broker),
    )


@pytest.fixture
def bench(broker: Broker, writer: Writer, runner: Runner) -> Bench:
    return Bench(platform_over(broker, writer, runner))


@dataclass
class Watched:
    """A run, and the future of what comes of it."""

    run: Run
    outcome: Future[Outcome]

    @classmethod
    def start(cls, runner: Runner, workflow: Workflow, context: Context, value: bytes) -> "Watched":
        outcome: Future[Outcome] = Future()
        return cls(runner.start(workflow, context, value, outcome.set_result), outcome)

    def cancel(self) -> None:
        self.run.cancel()


def begun() -> Begun:
    """Return a first attempt as it begins, of a task that no store knows."""
    task, worker = TaskRef(new_task_id()), new_worker_id()
    opening = Append(task, EntryId(1, 2), join_events([pack_event(None)]))
    return Begun(running_record(task, worker, 1, 0, 0.0, None, [None] * len(BEGUN_FIELDS)), opening, 2)


@dataclass
class Outlet:
    """An emitter without a writer: notes who rings and what is lost."""

    rings: list[Emitter] = field(default_factory=list)
    losses: int = 0

    def lose(self, reason: TailplaneError) -> None:
        self.losses += 1

    def emitter(self, budget: Budget | None = None, *, coalesces: bool = False, **limits: int) -> Emitter:
        bounds = {"event": 1000, "entry": 1000, "task": 10_000, "emit": 5000} | limits
        hooks = Hooks(self.rings.append, self.lose)
        return Emitter(begun(), Limits(**bounds), hooks, budget, coalesces=coalesces)


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; for what other threads do, and nobody tells."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder of the test's own, and forget what it imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
