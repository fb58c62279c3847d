"""Follows a task, or a session, to its end: for a person (live lines, then the result) or for a program (one JSON
envelope a line).
"""

import json
import sys
from typing import Any

from tailplane.client import Client, Event, Session, Task, TaskStatus
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.live import LiveView, LossNotice, arrivals
from tailplane.deploy.cli.progress import describe_age
from tailplane.deploy.cli.waiting import waiting_explained
from tailplane.protocol.events import PlatformType
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


async def follow_session(session: Session, start: str, as_json: bool) -> int:
    """Show the events of all tasks of a session from `start` on, to its end; return 0 if none ended badly, else 1."""
    stream, labels, all_well = session.events(start), dict[str, str](), True
    if as_json:
        async for item in stream:
            all_well &= _is_well(item.event)
            terminal.print_json(item.as_dict())
        return 0 if all_well else 1
    with LiveView(has_labels=True) as view, LossNotice(view.note) as notice:
        async for item, arrived in arrivals(stream):
            notice.mended()
            all_well &= _is_well(item.event)
            label = labels.setdefault(item.task_id, _label(item.task_id, item.event))
            view.show(item.event, arrived, label)
            if item.event.is_terminal:
                del labels[item.task_id]
    terminal.say(f"{session.session_id} has ended", stderr=True)
    return 0 if all_well else 1


def _is_well(event: Event) -> bool:
    return not event.is_terminal or event.type == PlatformType.SUCCEEDED


def _label(task_id: str, event: Event) -> str:
    """Return what tells a task's lines from others': its workflow, where its first event was seen, and its id's end."""
    workflow = event.data.get("workflow", "") if event.type == PlatformType.QUEUED else ""
    return f"{workflow} {task_id[-6:]}".strip()


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
