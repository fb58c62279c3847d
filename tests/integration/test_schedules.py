"""A hundred schedules on three control planes that are killed and stopped all the time: each due time is fired once."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, TaskRecord, TaskRef, WorkerRecord, WorkflowRecord, connect
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.deploy.child import Child
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import free_port
from tailplane.protocol.ids import DEFAULT_TENANT, new_worker_id
from tests.crontab import by_brute_force
from tests.integration.scheduling_plane import set_clock

PLANES = 3
PROGRAM = Path(__file__).with_name("scheduling_plane.py")
# The night in which Berlin's clocks go back, and New York's do not yet.
BEGIN = int(datetime.fromisoformat("2026-10-24T21:07:00Z").timestamp() * 1000)
HOURS = 8
END = BEGIN + HOURS * 3600_000
# Steps of the clock, and seconds between two of them.
STEPS = 36
STEP_S = 0.25
# Of so many steps, one at least has a control plane killed or stopped.
STEPS_PER_HIT = 3
# Of so many hits, one at least is a kill; and so many kills there are at least before the clock stands at its end.
HITS_PER_KILL, LEAST_KILLS = 3, 3
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]
CRONS = ["*/20 * * * *", "30 2 * * *", "0,30 * * * 0,6", "15 */2 * * *", "*/30 2-3 * * *"]
SEED = int(os.environ.get("SCHEDULES_SEED") or random.randrange(1_000_000))


@dataclass
class Expected:
    """A schedule and what must come of it."""

    name: str
    body: dict[str, Any]
    due: list[int] = field(default_factory=list)


def schedules() -> Iterator[Expected]:
    """Yield a hundred: forty by cron, thirty at intervals, ten once, twenty whose runs never end."""
    whole = {"catch_up": "all", "misfire_grace_ms": 7 * 86_400_000}
    for number in range(40):
        zone, cron = ZONES[number % len(ZONES)], CRONS[number % len(CRONS)]
        body = {"cron": cron, "time_zone": zone, **whole}
        yield Expected(f"cron-{number}", body, list(by_brute_force(cron, zone, BEGIN, END)))
    for number in range(30):
        every, start = (1500 + 37 * number) * 1000, BEGIN + 1 + number * 60_000
        body = {"every_ms": every, "start_at": start / 1000, **whole}
        yield Expected(f"every-{number}", body, list(range(start, END + 1, every)))
    for number in range(10):
        at = BEGIN + (number + 1) * (END - BEGIN) // 12
        yield Expected(f"once-{number}", {"run_at": at / 1000, **whole}, [at])
    for number in range(20):
        overlap, every = ("skip", "cancel")[number % 2], 1_000_000 + number * 10_000
        body = {"every_ms": every, "start_at": (BEGIN + every) / 1000, "overlap": overlap, "workflow": "idle", **whole}
        yield Expected(f"{overlap}-{number}", body, list(range(BEGIN + every, END + 1, every)))


@dataclass
class Stage:
    """Three control planes, their clock, their store, and who takes what they queue."""

    broker: Broker
    planes: list[Child]
    clock: Path
    urls: list[str]

    def set_clock(self, ms: int) -> None:
        set_clock(self.clock, ms)

    async def register(self) -> None:
        worker = WorkerRecord(new_worker_id(), "host-1", 1, "0", ["echo", "idle"], 1, 0)
        flows = [WorkflowRecord(name, "1", "", {}, None, 1, None) for name in ("echo", "idle")]
        await self.broker.queue.register(worker, flows, timedelta(hours=1))
        self.worker = worker.worker_id

    async def claim(self, workflow: str, until: asyncio.Event) -> list[str]:
        """Take what is queued of a workflow until nothing is left of what was there when `until` was set.

        Returns:
            Their ids; of what is queued again, again.
        """
        claimed = []
        while True:
            is_last = until.is_set()
            taken = (await self.broker.queue.claim(self.worker, 500, {workflow: 500})).taken
            for claim in taken:
                claimed.append(claim.task.task_id)
                await self.broker.queue.acknowledge(self.worker, claim)
            if is_last and not taken:
                return claimed
            if not taken:
                await self.broker.queue.wait([workflow], timedelta(milliseconds=100))

    async def until_nothing_is_due(self, now_ms: int) -> None:
        async with asyncio.timeout(60):
            upcoming = self.broker.schedules.upcoming
            while any(due <= now_ms for _, due in (await upcoming([DEFAULT_TENANT], 1))[DEFAULT_TENANT]):
                await asyncio.sleep(0.05)

    async def records(self) -> list[TaskRecord]:
        ids = await self.broker.catalogue.task_ids(DEFAULT_TENANT, None, None, 100_000)
        found = await self.broker.tasks.read_many([TaskRef(task_id) for task_id in ids], SUMMARY_FIELDS)
        return [record for record in found if record]


@asynccontextmanager
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    with EmbeddedServer() as server:
        redis = connect(server.url, Redis)
        broker = Broker.over(redis, prefix="tailplane", retention=timedelta(days=1), start_within=timedelta(days=1))
        clock, ports = tmp_path / "clock", [free_port() for _ in range(PLANES)]
        planes = [
            Child(
                f"control-plane-{port}",
                (sys.executable, "-P", str(PROGRAM)),
                output=tmp_path / f"{port}.log",
                env={"TAILPLANE_REDIS_URL": server.url, "TAILPLANE_PORT": str(port), "CLOCK_FILE": str(clock)},
            )
            for port in ports
        ]
        made = Stage(broker, planes, clock, [f"http://127.0.0.1:{port}" for port in ports])
        made.set_clock(BEGIN)
        try:
            for plane in planes:
                plane.start()
            await made.register()
            yield made
        finally:
            for plane in planes:
                plane.kill()
            await redis.aclose(close_connection_pool=True)


async def until_ready(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=30) as http, asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await http.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def put_all(url: str, wanted: list[Expected]) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
        for each in wanted:
            response = await http.put(f"/v1/schedules/{each.name}", json={"workflow": "echo"} | each.body)
            assert response.status_code == 201, response.text


async def make_trouble(stage: Stage, dice: random.Random, hits: Counter[str], until: asyncio.Event) -> None:
    """Kill one that is up and start it again, or stop one and let it go on, again and again."""
    while not until.is_set():
        number = dice.randrange(PLANES)
        plane = stage.planes[number]
        # On a slow machine one that was killed before it was up would never fire anything.
        await until_ready(stage.urls[number])
        assert plane.pid is not None
        if dice.random() < 0.6 or (hits.total() + 1) % HITS_PER_KILL == 0:
            await asyncio.to_thread(plane.kill)
            plane.start()
            hits["killed"] += 1
            await asyncio.sleep(dice.uniform(0.2, 0.8))
        else:
            os.kill(plane.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(dice.uniform(0.1, 1.0))
            finally:
                os.kill(plane.pid, signal.SIGCONT)
            hits["stopped"] += 1


@pytest.mark.process
@pytest.mark.slow
async def test_each_due_time_is_fired_once_whatever_happens_to_the_control_planes(tmp_path: Path) -> None:
    wanted, dice, hits = list(schedules()), random.Random(SEED), Counter[str]()
    assert len(wanted) == 100
    async with stage(tmp_path) as running:
        await until_ready(running.urls[0])
        await put_all(running.urls[0], wanted)
        calm, all_fired = asyncio.Event(), asyncio.Event()
        claiming = asyncio.create_task(running.claim("echo", all_fired))
        trouble = asyncio.create_task(make_trouble(running, dice, hits, calm))
        kills_in_time = 0
        for step in range(1, STEPS + 1):
            kills_in_time = hits["killed"]
            running.set_clock(BEGIN + step * (END - BEGIN) // STEPS)
            await asyncio.sleep(STEP_S)
            # However slow the machine is, they are hit all the time.
            while hits.total() < step // STEPS_PER_HIT and not trouble.done():
                await asyncio.sleep(0.05)
        calm.set()
        await trouble
        assert kills_in_time >= LEAST_KILLS
        await running.until_nothing_is_due(END)
        all_fired.set()
        claimed = await asyncio.wait_for(claiming, 60)
        idle = await running.claim("idle", all_fired)
        records = await running.records()
        said = {each.name: await running.broker.schedules.read(DEFAULT_TENANT, each.name) for each in wanted}

    print(f"seed {SEED}: {len(records)} due times fired, {dict(hits)}")  # noqa: T201
    fired: dict[str, list[int]] = {each.name: [] for each in wanted}
    for record in records:
        assert record.schedule is not None
        assert record.due_at is not None
        fired[record.schedule].append(round(record.due_at * 1000))
    for each in wanted:
        # Of those that are skipped, the first one never ends.
        expected = each.due[:1] if each.body.get("overlap") == "skip" else each.due
        assert sorted(fired[each.name]) == expected, f"{each.name}, seed {SEED}"
        assert said[each.name].fired == len(expected)
        assert (said[each.name].missed, said[each.name].skipped) == (0, len(each.due) - len(expected))
    # And each came out of the queue once.
    assert sorted(claimed) == sorted(record.task_id for record in records if record.workflow == "echo")
    # Of those that cancel the run before, one is left. Who dies between cancelling a run and withdrawing it leaves its
    # id in the queue, for a worker to find that it has ended.
    states = {record.task_id: record.state.value for record in records if record.workflow == "idle"}
    queued = {task_id for task_id, state in states.items() if state == "queued"}
    assert len(queued) == 20
    assert len(set(idle)) == len(idle)
    assert queued <= set(idle)
    assert {states[task_id] for task_id in set(idle) - queued} <= {"cancelled"}
