"""One run: starts a fleet, puts load on it, inflicts the faults, waits for all to end, and checks all that was seen."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redis.asyncio import Redis

from tailplane.deploy import probe
from tests.chaos import evidence, leftovers, logs
from tests.chaos.attempts import divide
from tests.chaos.checks import Violation, violations
from tests.chaos.doors import fresh_clients, seen_by_others
from tests.chaos.faults import OF_ONE_SERVER, Kind, schedule
from tests.chaos.fleet import Fleet, fleet
from tests.chaos.history import Inflicted, Leftover, TaskHistory
from tests.chaos.inflict import inflict
from tests.chaos.load import Load, complete, open_clients
from tests.chaos.orders import TENANTS, WORKFLOWS, orders
from tests.chaos.recovery import recoveries
from tests.chaos.report import Report

Say = Callable[[str], None]

# Seconds from the last fault: until every task must have ended; until what is left behind must have gone.
_SETTLE = 150.0
_TIDY = 30.0
_PROGRESS = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run consists of: `seconds` of faults of these `kinds`; `at_once` tasks at the most.

    Attributes:
        has_shards: whether the streams are on a cluster; `kinds` may then have those of its faults.
        signs_in: whether API keys are demanded, and the tasks are several tenants'; `kinds` may then have theirs.
        upheaval: what happens to the fleet instead of such faults, noted as it happens.
    """

    seed: int
    seconds: float
    tasks: int
    at_once: int = 30
    workers: int = 3
    control_planes: int = 2
    kinds: tuple[Kind, ...] = OF_ONE_SERVER
    has_shards: bool = False
    signs_in: bool = True
    upheaval: Callable[[Fleet, list[Inflicted]], Awaitable[None]] | None = None


async def run(plan: Plan, say: Say) -> Report:
    """Carry out a run, and say now and then how far it is, and where its evidence is if it broke a promise."""
    directory = Path(tempfile.mkdtemp(prefix="tailplane-chaos-"))
    async with fleet(
        directory,
        workers=plan.workers,
        control_planes=plan.control_planes,
        has_shards=plan.has_shards,
        signs_in=plan.signs_in,
    ) as running:
        await _until_registered(running)
        say(f"seed {plan.seed}: {plan.seconds:g} s of faults, {plan.tasks} tasks")
        report = await _run(plan, running, directory, say)
    if report.violations:
        say(f"logs and evidence are in {directory}")
    else:
        await asyncio.to_thread(shutil.rmtree, directory)
    return report


async def _run(plan: Plan, running: Fleet, directory: Path, say: Say) -> Report:
    inflicted: list[Inflicted] = []
    async with open_clients(running.url) as unsigned:
        load = Load(running.doors or unsigned)
        whole_at = await _strain(plan, running, load, inflicted, say)
        settling = asyncio.get_running_loop().time() - whole_at
    histories = load.histories
    say(f"{load.ended} tasks have ended, {settling:.1f} s after the last fault: reading all again")
    async with fresh_clients(running.direct_url, running.doors) as fresh:
        await complete(fresh, histories, running.ledger)
        seen = await seen_by_others(fresh, histories) if plan.signs_in else []
    let_in = await running.doors.violations(running.direct_url) if running.doors else []
    left, untidy = await _tidy(running, histories, plan.workers)
    found = [violation for history in histories for violation in violations(history)]
    said = [trouble for member in running.members for trouble in member.troubles]
    own = [Violation("", "a process starts, works and ends when it is told to", "that", one) for one in said]
    logged = logs.violations([member.log for member in running.members])
    broken = [*found, *untidy, *own, *logged, *seen, *let_in]
    evidence.write(directory, broken, histories, inflicted)
    return Report(
        seed=plan.seed,
        seconds=plan.seconds,
        settling=settling,
        ends=Counter(_end(history) for history in histories),
        events=sum(len(history.again) for history in histories),
        attempts=sum(len(divide(history.again)[0]) for history in histories),
        faults=Counter(one.fault.kind for one in inflicted),
        recoveries=recoveries(histories, inflicted),
        unqueued=leftovers.unqueued(left, {history.task_id for history in histories}),
        violations=broken,
    )


async def _strain(plan: Plan, running: Fleet, load: Load, inflicted: list[Inflicted], say: Say) -> float:
    """Put load and faults on the fleet until every task has ended or is given up; return when the faults were over."""
    clock = asyncio.get_running_loop().time
    faults = schedule(plan.seed, plan.seconds, plan.workers, plan.control_planes, plan.kinds)
    wanted = orders(plan.seed, plan.tasks, TENANTS if plan.signs_in else TENANTS[:1])
    minders = [
        asyncio.create_task(running.mind()),
        asyncio.create_task(_tell_progress(load, plan, inflicted, len(faults), say)),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(load.run(wanted, plan.seconds, plan.at_once))
            # Each fault has deadlines of its own.
            await (plan.upheaval(running, inflicted) if plan.upheaval else inflict(running, faults, inflicted))
            whole_at = clock()
            await asyncio.wait({loading}, timeout=_SETTLE)
            load.give_up()
        return whole_at
    finally:
        for minder in minders:
            minder.cancel()
        await asyncio.gather(*minders, return_exceptions=True)


async def _tell_progress(load: Load, plan: Plan, inflicted: list[Inflicted], faults: int, say: Say) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(_PROGRESS)
        say(
            f"{time.monotonic() - began:4.0f} s: {load.ended} of {plan.tasks} tasks have ended, "
            f"{len(load.histories) - load.ended} run, {load.events:,} events, {len(inflicted)} of {faults} faults"
        )


async def _tidy(running: Fleet, histories: list[TaskHistory], workers: int) -> tuple[list[Leftover], list[Violation]]:
    """Return what Redis holds once that is as it should be, or after a while; and what is wrong with it."""
    ends = {history.task_id: history.record.state if history.record else None for history in histories}
    owners = {history.task_id: history.order.tenant for history in histories}
    deadline = time.monotonic() + _TIDY
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(Redis.from_url(store.url)) for store in running.stores]
        while True:
            left = [one for store in stores for one in await leftovers.read(store)]
            untidy = leftovers.violations(left, ends, workers, owners)
            if not untidy or time.monotonic() > deadline:
                return left, untidy
            await asyncio.sleep(0.5)


async def _until_registered(running: Fleet) -> None:
    async with asyncio.timeout(30):
        while True:
            key = running.doors.key_of(TENANTS[0]) if running.doors else None
            registered = await asyncio.to_thread(
                partial(probe.list_items, running.direct_url, "workflows", api_key=key)
            )
            if {item["name"] for item in registered or ()} >= WORKFLOWS:
                return
            await asyncio.sleep(0.1)


def _end(history: TaskHistory) -> str:
    return history.record.state.value if history.record else "lost"
