"""The life of a task, as one table.

`TRANSITIONS` is the only place that says which move is allowed from which state. Everybody else sends a `Trigger`
and handles `TransitionRefused`; the Lua scripts receive the rows of the table as data (`encode_moves`), so that
they decide by the same table on the server. The diagram in ARCHITECTURE.md is printed by `diagram`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow this state."""
        return self in TERMINAL


class Trigger(StrEnum):
    """What may move a task."""

    BEGIN = "begin"
    TAKE_OVER = "take_over"
    RETRY = "retry"
    HAND_BACK = "hand_back"
    WAIT = "wait"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


TRANSITIONS: Mapping[Trigger, Mapping[State, State]] = MappingProxyType(
    {
        # A worker starts the next attempt of a task that nobody holds.
        Trigger.BEGIN: {State.QUEUED: State.RUNNING, State.WAITING: State.RUNNING},
        # The queue delivered a task again because its worker lost its lease: the new attempt fences the old one off.
        Trigger.TAKE_OVER: {State.RUNNING: State.RUNNING},
        # The attempt failed and another one is due.
        Trigger.RETRY: {State.RUNNING: State.QUEUED},
        # The worker gives an unfinished task back (drain); not a failed attempt.
        Trigger.HAND_BACK: {State.RUNNING: State.QUEUED},
        Trigger.WAIT: {State.RUNNING: State.WAITING},
        Trigger.SUCCEED: {State.RUNNING: State.SUCCEEDED},
        # From QUEUED: the task can never run, for instance because its input no longer fits the workflow.
        Trigger.FAIL: {State.RUNNING: State.FAILED, State.QUEUED: State.FAILED, State.WAITING: State.FAILED},
        Trigger.CANCEL: {
            State.QUEUED: State.CANCELLED,
            State.RUNNING: State.CANCELLED,
            State.WAITING: State.CANCELLED,
        },
        Trigger.EXPIRE: {State.QUEUED: State.EXPIRED, State.WAITING: State.EXPIRED},
    }
)

# A terminal state is one that no row of the table leaves.
TERMINAL: frozenset[State] = frozenset(State) - {source for moves in TRANSITIONS.values() for source in moves}


class TransitionRefused(ValueError):
    """The table has no such move."""

    def __init__(self, trigger: Trigger, state: State) -> None:
        self.trigger = trigger
        self.state = state
        super().__init__(f"a task that is {state} does not take {trigger}")


def move(trigger: Trigger, state: State) -> State:
    """Return the state that follows.

    Raises:
        TransitionRefused: the table has no such move.
    """
    try:
        return TRANSITIONS[trigger][state]
    except KeyError:
        raise TransitionRefused(trigger, state) from None


def encode_moves(*triggers: Trigger) -> str:
    """Return rows of the table in the form the Lua scripts take: `from=to;from=to;`."""
    return "".join(f"{source}={target};" for trigger in triggers for source, target in TRANSITIONS[trigger].items())


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for ARCHITECTURE.md."""
    labels: dict[tuple[State, State], list[str]] = {}
    for trigger, moves in TRANSITIONS.items():
        for source, target in moves.items():
            labels.setdefault((source, target), []).append(trigger)
    lines = ["stateDiagram-v2", f"    [*] --> {State.QUEUED}"]
    lines += [f"    {source} --> {target}: {', '.join(by)}" for (source, target), by in labels.items()]
    lines += [f"    {state} --> [*]" for state in State if state.is_terminal]
    return "\n".join(lines)
