"""Tells a person who follows a task why nothing happens: it is still queued, and who could run it. On stderr, once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from tailplane.client import Client, Task, WorkerInfo
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.moments import describe_moment
from tailplane.deploy.cli.progress import describe_count
from tailplane.protocol.errors import TailplaneError
from tailplane.protocol.states import State

# A healthy fleet starts a task within milliseconds, and a worker that `dev` starts anew is back within this.
_PATIENCE_S = 2.0


@contextlib.asynccontextmanager
async def waiting_explained(
    client: Client,
    task: Task,
    patience_s: float = _PATIENCE_S,
    say: Callable[[str], None] = lambda text: terminal.say(text, stderr=True),
) -> AsyncIterator[None]:
    """While the block runs: if the task is still queued after `patience_s` seconds, say why."""
    look = asyncio.create_task(_look_once(client, task, patience_s, say))
    try:
        yield
    finally:
        look.cancel()
        # Whatever became of it: a word of explanation is no reason to end the following.
        await asyncio.gather(look, return_exceptions=True)


async def _look_once(client: Client, task: Task, patience_s: float, say: Callable[[str], None]) -> None:
    await asyncio.sleep(patience_s)
    with contextlib.suppress(TailplaneError):
        status = await task.status()
        # One that waits for another attempt has said so, in an event.
        if status.state == State.QUEUED and status.attempt == 0:
            if status.due_at is not None and status.due_at > time.time():
                say(f"the task is due at {describe_moment(status.due_at)}")
                return
            why = explanation(status.workflow, await client.workers())
            if status.concurrency_key is not None:
                why += f", or for others with the key {status.concurrency_key!r} to end"
            before = f"; {before_it(status.position)}" if status.position else ""
            say(terminal.printable(why + before))


def before_it(position: int) -> str:
    """Return how many tasks, at least one, were in the queue before the one that waits."""
    return f"{describe_count(position, 'task')} waited before it when it was queued"


def explanation(workflow: str, workers: Sequence[WorkerInfo]) -> str:
    """Return why a queued task of `workflow` waits, as far as the living workers tell."""
    able = [worker for worker in workers if workflow in worker.workflows]
    if not able:
        return f"no living worker serves {workflow}: the task waits for one"
    serve = f"{describe_count(len(able), 'worker')} {'serves' if len(able) == 1 else 'serve'} {workflow}"
    if all(worker.running >= worker.concurrency for worker in able):
        return f"{serve}, all busy: the task waits for a free place"
    return f"{serve}: the task waits for its turn"
