"""An attempt that is lost in the middle, and what is left of it: for the tests of steps, waits and children."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tailplane.broker import TaskRef
from tailplane.client.rewinds import Accumulated
from tailplane.workers.attempt import Attempt, Stop
from tailplane.workers.workflow import Workflow

from .conftest import PATIENCE, Bench, eventually


@dataclass
class Gate:
    """A place in a workflow at which attempts are lost, one after the other, as many as are wanted."""

    losses: int = 1
    arrivals: int = 0
    opened: list[str] = field(default_factory=list)

    async def pass_or_hang(self) -> None:
        """Go through, but for the first few times."""
        self.arrivals += 1
        if self.arrivals <= self.losses:
            await asyncio.Event().wait()


async def runs(attempt: Attempt) -> None:
    """Run an attempt until its slot is free again: it has ended, or its task is parked."""
    async with asyncio.timeout(PATIENCE):
        await attempt.run()
        await attempt.unwound()


async def lose(bench: Bench, attempt: Attempt, when: Callable[[], bool]) -> None:
    """Run an attempt until something holds, and let it be lost, as if its worker had died there."""
    running = asyncio.ensure_future(attempt.run())
    await eventually(when)
    # What was written is on its way: a worker that dies loses what Redis has not taken.
    await eventually(lambda: attempt.unsent_bytes == 0)
    attempt.stop(Stop.LOST)
    await asyncio.wait_for(running, PATIENCE)
    await asyncio.wait_for(attempt.unwound(), PATIENCE)
    await bench.broker.queue.reap(bench.platform.worker, leaves=True)
    await bench.register()


async def run_with_losses(bench: Bench, workflow: Workflow, gate: Gate, value: object = None) -> TaskRef:
    """Submit a task, lose as many of its attempts at the gate as that wants, and run the last one to its end."""
    task = await bench.submit(workflow, value)
    for number in range(1, gate.losses + 1):
        await lose(bench, await bench.attempt(workflow), lambda number=number: gate.arrivals >= number)  # type: ignore[misc]
    await bench.run(workflow)
    return task


async def shown(bench: Bench, task: TaskRef) -> list[object]:
    """Return what a reader shows who shows each thing once."""
    accumulated = Accumulated()
    for event in await bench.events(task):
        accumulated.add(event)
    return [event.data for event in accumulated.events]
