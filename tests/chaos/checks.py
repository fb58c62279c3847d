"""What must be true of every task, whatever happened to the fleet. No I/O.

`violations` takes one task's history and names each promise that it breaks, with what was expected and what was seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tailplane.protocol.events import TERMINAL_TYPES, Event, Kind, PlatformType
from tailplane.protocol.states import State
from tests.chaos.attempts import Attempt, Misplaced, divide
from tests.chaos.history import TaskHistory
from tests.chaos.orders import Order
from tests.chaos.workflows import RETRIES

# As in `workers/attempt.py`: a task that lost so many workers is taken for their cause.
_CRASHES_BORNE = max(3, RETRIES + 1)
_AROUND = 2


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept. `task_id` is empty where it is the fleet's or the store's."""

    task_id: str
    rule: str
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"{self.task_id or '-'}: {self.rule}: expected {self.expected}, saw {self.seen}"


def violations(history: TaskHistory) -> list[Violation]:
    """Return what is wrong with one task; nothing where all is well."""
    if not history.task_id or history.troubles or history.record is None:
        seen = "; ".join(history.troubles) or "no record"
        return [Violation(history.task_id, "it ends, and can be read", "a complete history", seen)]
    attempts, misplaced = divide(history.again)
    rules = (
        _numbers(history.again),
        _end(history.again),
        _live(history.live, history.again),
        _places(misplaced),
        _data(history.order, attempts, history.again),
        _kind_of_end(history, attempts),
        _rewinds(history.again, attempts),
        _views(history, attempts),
        _told_alike(history, attempts),
        _runs(history, attempts),
    )
    return [Violation(history.task_id, *broken) for rule in rules for broken in rule]


# What a rule yields for each violation: its name, what was expected, what was seen.
_Broken = tuple[str, str, str]


def _numbers(events: Sequence[Event]) -> Iterator[_Broken]:
    for at, event in enumerate(events):
        if event.seq != at + 1:
            yield "seq counts from 1 without a hole", str(at + 1), str(event.seq)
            return


def _end(events: Sequence[Event]) -> Iterator[_Broken]:
    ends = [event for event in events if event.is_terminal]
    if len(ends) != 1:
        yield "one terminal event", "1", str([_brief(event) for event in ends])
    if not events or not events[-1].is_terminal:
        yield "nothing follows the terminal event", "it is the last", str([_brief(event) for event in events[-2:]])


def _live(live: Sequence[Event], again: Sequence[Event]) -> Iterator[_Broken]:
    if live == again:
        return
    at = _first_difference(live, again)
    yield (
        "a reader sees live what the stream holds",
        f"{len(again)} events, after {at} {_briefly(again, at)}",
        f"{len(live)} events, after {at} {_briefly(live, at)}",
    )


def _places(misplaced: Sequence[Misplaced]) -> Iterator[_Broken]:
    for event, why in misplaced[:3]:
        yield "events stand in their attempt, and attempts in a row", why, _brief(event)


def _data(order: Order, attempts: Sequence[Attempt], events: Sequence[Event]) -> Iterator[_Broken]:
    for attempt in attempts:
        wrote = order.script.data(attempt.number)
        seen = [event.data for event in attempt.written]
        if seen != wrote[: len(seen)]:
            at = _first_difference(seen, wrote)
            yield (
                "an attempt's events are a prefix of what it wrote",
                f"attempt {attempt.number}, after {at}: {wrote[at : at + _AROUND]}",
                str(seen[at : at + _AROUND]),
            )
        elif attempt.ended_by in (PlatformType.SUCCEEDED, PlatformType.RETRYING) and len(seen) < len(wrote):
            yield "an attempt that ended by itself lost nothing", f"{len(wrote)} events", f"{len(seen)} events"
        if attempt.ended_by == PlatformType.RETRYING and not order.script.raises(attempt.number):
            error = next(event for event in events if event.seq == attempt.ended_at).data
            yield "only what is meant to raise fails", f"attempt {attempt.number} to go on", str(error)


def _kind_of_end(history: TaskHistory, attempts: Sequence[Attempt]) -> Iterator[_Broken]:
    last = history.again[-1] if history.again else None
    if last is None or not last.is_terminal:
        return
    order, state = history.order, TERMINAL_TYPES[last.type or ""]
    code = last.data.get("error", {}).get("code") if state is State.FAILED else None
    lost = sum(attempt.ended_by in (PlatformType.WORKER_LOST, PlatformType.RETRYING) for attempt in attempts)
    match state, code:
        case State.SUCCEEDED, _:
            if attempts and order.script.raises(attempts[-1].number):
                yield "an attempt that raises does not succeed", "task.retrying", _brief(last)
        case State.CANCELLED, _ if order.cancel_after is not None:
            pass
        case State.FAILED, "worker_lost" if order.workflow == "once":
            pass
        case State.FAILED, "attempts_exhausted" if lost >= _CRASHES_BORNE:
            pass
        case _:
            yield "a task ends as it may", "succeeded, or cancelled where it was", f"{state.value} {last.data}"
    if order.cancel_after is not None and history.cancelled not in (state, None):
        yield "a cancellation tells how the task ended", state.value, str(history.cancelled)


def _rewinds(events: Sequence[Event], attempts: Sequence[Attempt]) -> Iterator[_Broken]:
    standing: list[Event] = []
    for event in events:
        if event.kind != Kind.PLATFORM:
            standing.append(event)
        elif event.type == PlatformType.REWIND:
            standing = [one for one in standing if one.seq <= event.data["to"]]
    last = attempts[-1].written if attempts else []
    if standing != last:
        yield (
            "rewinds leave the last attempt alone",
            f"{len(last)} events {_briefly(last, 0)}",
            f"{len(standing)} events {_briefly(standing, 0)}",
        )


def _views(history: TaskHistory, attempts: Sequence[Attempt]) -> Iterator[_Broken]:
    last: list[Any] = [event.data for event in attempts[-1].written] if attempts else []
    if history.kept is not None and history.kept != last:
        yield "what rewinds drop is not shown", f"{len(last)} events", _difference(history.kept, last)
    shown, view = history.shown, history.order.view
    if shown is None:
        return
    match view:
        case "text":
            texts = [datum for datum in last if isinstance(datum, str)]
            if shown != ["".join(texts)]:
                yield "the text shows each thing once", f"{len(''.join(texts))} characters", f"{shown}"[:200]
        case "drop":
            # It was opened at any time: what a later attempt superseded was shown already.
            doubled = [one for one, other in pairwise(sorted(shown, key=repr)) if one == other]
            if doubled:
                yield "nothing is shown twice", "each event once", f"{doubled[:_AROUND]} twice"
            if shown[len(shown) - len(last) :] != last:
                yield "the last attempt is shown whole", f"{len(last)} events", _difference(shown, last)
        case _:
            if shown != last:
                yield f"the view ({view}) shows each thing once", f"{len(last)} events", _difference(shown, last)


def _told_alike(history: TaskHistory, attempts: Sequence[Attempt]) -> Iterator[_Broken]:
    """Compare the terminal event with the record, with what the client was told, and with what was to come out."""
    record, outcome = history.record, history.outcome
    last = history.again[-1] if history.again else None
    if record is None or last is None or not last.is_terminal:
        return
    state, said = TERMINAL_TYPES[last.type or ""], last.data or {}
    if record.state is not state:
        yield "the record has the state of the terminal event", state.value, record.state.value
    number = attempts[-1].number if attempts else 0
    if record.attempt != number:
        yield "the record counts the attempts", str(number), str(record.attempt)
    if state is State.SUCCEEDED and not said.get("result") == record.result == history.order.result(number):
        yield "the result is the same everywhere", str(history.order.result(number)), f"{said} and {record.result}"
    error = record.error.code if record.error else None
    if error != said.get("error", {}).get("code"):
        yield "the error is the same everywhere", str(said.get("error")), str(record.error)
    wanted = {State.SUCCEEDED: record.result, State.FAILED: error}.get(state)
    if outcome is None or (outcome.state, outcome.said) != (state, wanted):
        yield "the client is told the end", f"{state.value} {wanted}", str(outcome)
    beyond = [event.seq for attempt in attempts[:-1] for event in attempt.written]
    covered = [seq for seq in beyond if any(first <= seq <= end for first, end in record.superseded)]
    standing = [event.seq for event in (attempts[-1].written if attempts else [])]
    if covered != beyond or any(first <= seq <= end for seq in standing for first, end in record.superseded):
        yield "the record says what is superseded", f"all before attempt {number}", str(record.superseded)


def _runs(history: TaskHistory, attempts: Sequence[Attempt]) -> Iterator[_Broken]:
    ran = [run.attempt for run in history.runs]
    if len(set(ran)) < len(ran):
        yield "an attempt is run by one worker", "each attempt once", str(history.runs)
    if unseen := set(ran) - {attempt.number for attempt in attempts}:
        yield "no attempt runs unseen", "each one's beginning in the stream", f"attempts {sorted(unseen)} in the ledger"
    if history.order.workflow == "once" and len(ran) > 1:
        yield "what may not run again runs once", "one run", str(history.runs)
    if spoke := {attempt.number for attempt in attempts if attempt.written} - set(ran):
        yield "who writes has run", "a run for each attempt that wrote", f"no run of attempts {sorted(spoke)}"


def _first_difference(some: Sequence[Any], others: Sequence[Any]) -> int:
    both = min(len(some), len(others))
    return next((at for at in range(both) if some[at] != others[at]), both)


def _difference(seen: Sequence[Any], expected: Sequence[Any]) -> str:
    at = _first_difference(seen, expected)
    return f"{len(seen)} events; after {at} {seen[at : at + _AROUND]} instead of {expected[at : at + _AROUND]}"


def _briefly(events: Sequence[Event], at: int) -> str:
    return str([_brief(event) for event in events[at : at + _AROUND]])


def _brief(event: Event) -> str:
    return f"{event.seq}/{event.attempt} {event.type or ''} {event.data!r}"[:160]
