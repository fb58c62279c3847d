"""Follows a task to its end, for a person (live lines, then the result) or for a program (one JSON envelope a line)."""

import json
import sys
from typing import Any

from tailplane.client import Client, Task, TaskStatus
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.live import LiveView, LossNotice, arrivals
from tailplane.deploy.cli.progress import describe_age
from tailplane.deploy.cli.waiting import waiting_explained
from tailplane.protocol.states import State


async def follow(client: Client, task: Task, start: str, as_json: bool) -> int:
    """Show a task's events from `start` on; return 0 if it succeeded, else 1.

    Raises: as the client's stream, but for the task's own failure, which is shown.
    """
    async with waiting_explained(client, task):
        return await _show(task, start, as_json)


async def _show(task: Task, start: str, as_json: bool) -> int:
    stream = task.events(start)
    if as_json:
        async for event in stream:
            terminal.print_json(event.as_dict())
        return 0 if (await task.status()).state == State.SUCCEEDED else 1
    with LiveView() as view, LossNotice(view.note) as notice:
        async for event, arrived in arrivals(stream):
            notice.mended()
            view.show(event, arrived)
    status = await task.status()
    _print_end(status)
    return 0 if status.state == State.SUCCEEDED else 1


def _print_end(status: TaskStatus) -> None:
    took = ""
    if status.ended_at is not None:
        attempts = f" and {status.attempt} attempts" if status.attempt > 1 else ""
        took = f" after {describe_age(status.ended_at - status.created_at)}{attempts}"
    if status.state == State.SUCCEEDED:
        terminal.say(f"{status.task_id} succeeded{took}", stderr=True)
        if status.result is not None:
            terminal.say(terminal.printable(_pretty(status.result)))
        return
    terminal.say(f"error: {status.task_id} {_verb(status.state)}{took}", stderr=True)
    if status.error is not None:
        if status.error.traceback:
            sys.stderr.write(terminal.printable(status.error.traceback.rstrip()) + "\n")
        else:
            kind = f"{status.error.type}: " if status.error.type else ""
            terminal.say(terminal.printable(f"{kind}{status.error.message}"), stderr=True)


def _verb(state: State) -> str:
    return {State.CANCELLED: "was cancelled", State.EXPIRED: "expired"}.get(state, str(state))


def _pretty(value: Any) -> str:
    from tailplane.protocol import json_codec

    # Through our own codec first: it knows what becomes of bytes and datetimes.
    return json.dumps(json.loads(json_codec.to_json(value)), indent=2, ensure_ascii=False)
