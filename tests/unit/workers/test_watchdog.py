"""A loop that stands still is noticed, and who blocks it named."""

import asyncio
import threading
from collections.abc import Iterator, MutableMapping
from datetime import timedelta
from typing import Any

import pytest
import structlog

from tailplane.protocol import codec
from tailplane.workers import Context
from tailplane.workers.runner import Runner
from tailplane.workers.watchdog import Watchdog
from tailplane.workers.workflow import Workflow

from .conftest import PATIENCE, Outlet, Watched, eventually

PATIENT = timedelta(milliseconds=60)
Logs = list[MutableMapping[str, Any]]


@pytest.fixture
def logs() -> Iterator[Logs]:
    with structlog.testing.capture_logs() as logs:
        yield logs


async def test_who_blocks_the_loop_is_named_again_as_the_time_doubles_until_it_runs(
    runner: Runner, outlet: Outlet, logs: Logs
) -> None:
    let_go = threading.Event()

    async def blocker(ctx: Context) -> None:
        let_go.wait(PATIENCE)

    watching = asyncio.ensure_future(Watchdog(runner.loop, PATIENT).watch())
    context = Context("t_7", 1, "blocker", None, {}, outlet.emitter())
    running = Watched.start(runner, Workflow(blocker), context, codec.pack(None))
    await eventually(lambda: len(logs) >= 3)
    let_go.set()
    await eventually(lambda: logs[-1]["log_level"] == "info")
    watching.cancel()
    assert running.outcome.result(PATIENCE).error is None
    *warnings, over = logs
    named = {(log["workflow"], log["task_id"], log["attempt"], log["log_level"]) for log in warnings}
    assert named == {("blocker", "t_7", 1, "warning")}
    stalled = [log["blocked_s"] for log in warnings]
    assert stalled == sorted(stalled)
    assert over["event"] == "the workflows' loop runs again"
    assert over["blocked_s"] >= stalled[-1]


async def test_what_is_no_workflow_is_unknown(runner: Runner, logs: Logs) -> None:
    let_go = threading.Event()
    runner.loop.call_soon_threadsafe(let_go.wait, PATIENCE)
    watching = asyncio.ensure_future(Watchdog(runner.loop, PATIENT).watch())
    await eventually(lambda: bool(logs))
    let_go.set()
    watching.cancel()
    assert logs[0]["workflow"] == "unknown"
    assert "task_id" not in logs[0]


async def test_a_loop_that_runs_is_not_reported(runner: Runner, logs: Logs) -> None:
    looks = 0
    patience = timedelta(seconds=PATIENCE)

    def look() -> None:
        nonlocal looks
        looks += 1

    watching = asyncio.ensure_future(Watchdog(runner.loop, patience).watch())
    runner.loop.call_soon_threadsafe(look)
    await eventually(lambda: looks == 1)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert logs == []
