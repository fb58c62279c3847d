"""What was seen of a run: of each task, of the fleet, and of what Redis held in the end. No I/O."""

from dataclasses import dataclass, field
from typing import Any

from tailplane.client import TaskStatus
from tailplane.protocol.events import Event
from tailplane.protocol.states import State
from tests.chaos.faults import Fault
from tests.chaos.orders import Order


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt that a worker's code really ran, as the ledger has it. `at` in seconds since the epoch."""

    task_id: str
    attempt: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a client was told that its task ended: with a result, or an error's code."""

    state: State
    said: Any = None


@dataclass(slots=True)
class TaskHistory:
    """All that was seen of one task.

    Attributes:
        order: what was asked for.
        task_id: empty where the submit did not come through.
        live: what the reader of the whole stream saw while the task ran.
        shown: what the order's view showed in the end; None where it does not say, as after a failure.
        cancelled: the state that the call to cancel it returned.
        outcome: what `Task.result` said.
        again: the whole stream, read anew when all had ended.
        kept: what `on_rewind="drop"` left of it then.
        record: the task's record then.
        runs: what the ledger has of it.
        troubles: what kept this history from being complete, such as a deadline that passed.
    """

    order: Order
    task_id: str = ""
    live: list[Event] = field(default_factory=list)
    shown: list[Any] | None = None
    cancelled: State | None = None
    outcome: Outcome | None = None
    again: list[Event] = field(default_factory=list)
    kept: list[Any] | None = None
    record: TaskStatus | None = None
    runs: list[Run] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Inflicted:
    """A fault as it was carried out. Times in seconds since the epoch; `pid` of the process it was done to, or None."""

    fault: Fault
    began: float
    ended: float
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Leftover:
    """A key in Redis when all had ended. `ttl_ms` is -1 where it has none; `members` of a sorted set."""

    key: str
    kind: str
    ttl_ms: int
    members: tuple[str, ...] = ()
