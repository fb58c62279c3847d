"""Histories of one task as they should be, for tests that then break them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tailplane.client import ErrorInfo, TaskStatus
from tailplane.protocol.events import TERMINAL_TYPES, Event, Kind
from tailplane.protocol.states import State
from tests.chaos.history import Outcome, Run, TaskHistory
from tests.chaos.orders import Order
from tests.chaos.script import Script

TASK = "task-1"
SCRIPT = Script(seed=7, count=5, pause=0.0)


def said(type_: str, attempt: int, data: Any = None, seq: int = 0, time: float = 0.0) -> Event:
    """Return what the platform says; its seq is given by `numbered`."""
    return Event(seq, attempt, time, data, type_, kind=Kind.PLATFORM)


def written(attempt: int, count: int = SCRIPT.count, first: int = 0, script: Script = SCRIPT) -> list[Event]:
    """Return events that an attempt's workflow wrote."""
    return [Event(0, attempt, 0.0, script.datum(attempt, index)) for index in range(first, count)]


def beginning(attempt: int, time: float = 0.0) -> list[Event]:
    """Return what the platform says when an attempt begins."""
    rewind = [said("task.rewind", attempt, {"to": 0, "reason": "failed"})] if attempt > 1 else []
    return [*rewind, said("task.started", attempt, {"worker_id": "w", "host": "h"}, time=time)]


def succeeded(attempt: int) -> Event:
    """Return the end that the script's workflow comes to."""
    return said("task.succeeded", attempt, {"result": SCRIPT.result(attempt)})


def numbered(events: Sequence[Event]) -> list[Event]:
    """Return copies of these events with the seqs of a stream that holds them."""
    return [
        Event(seq, one.attempt, one.time, one.data, one.type, one.channel, one.step, one.kind)
        for seq, one in enumerate(events, 1)
    ]


def two_attempts() -> list[Event]:
    """Return the stream of a task that lost its worker after three events and then succeeded."""
    return [
        said("task.queued", 0, {"workflow": "slow", "version": "1"}),
        *beginning(1),
        *written(1, 3),
        said("task.worker_lost", 1, {"worker_id": "w"}),
        *beginning(2),
        *written(2),
        succeeded(2),
    ]


def history(events: Sequence[Event] | None = None, **order: Any) -> TaskHistory:
    """Return a history in which all was seen as it stands in the stream, of two attempts where none is given."""
    stream = numbered(two_attempts() if events is None else events)
    wanted = replace(Order(0, "slow", SCRIPT, "snapshots"), **order)
    state, end = TERMINAL_TYPES[stream[-1].type or ""], stream[-1].data or {}
    last = max((event.attempt for event in stream), default=0)
    rewinds = [event.seq for event in stream if event.type == "task.rewind"]
    error = ErrorInfo(**end["error"]) if "error" in end else None
    shown = [event.data for event in stream if event.kind == Kind.WORKFLOW and event.seq > max(rewinds, default=0)]
    return TaskHistory(
        order=wanted,
        task_id=TASK,
        live=list(stream),
        shown=list(shown),
        cancelled=None if wanted.cancel_after is None else state,
        outcome=Outcome(state, end.get("result") if state is State.SUCCEEDED else error and error.code),
        again=stream,
        kept=list(shown),
        record=TaskStatus(
            task_id=TASK,
            workflow=wanted.workflow,
            state=state,
            attempt=last,
            created_at=0.0,
            superseded=[(1, max(rewinds) - 1)] if rewinds else [],
            result=end.get("result"),
            error=error,
        ),
        runs=[Run(TASK, attempt, 100 + attempt, 0.0) for attempt in range(1, last + 1)],
    )
