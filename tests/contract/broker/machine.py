"""What both machines of `test_state_machine.py` stand on: a deployment, and the comparison of answers."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tailplane.broker import HolderLost, LeaseLapsed, StartTooLate, TailMismatch
from tailplane.protocol.errors import (
    IdempotencyConflict,
    InboxFull,
    SessionClosed,
    SessionNotFound,
    TaskEnded,
    TaskLost,
    TaskNotFound,
)
from tailplane.protocol.ids import WorkerId
from tailplane.protocol.states import TransitionRefused

from .calls import Calls

T = TypeVar("T")
Step = TypeVar("Step", bound=Callable[..., None])

WORKERS = [WorkerId(f"w_{number:026}") for number in range(3)]
REFUSALS = (
    HolderLost, IdempotencyConflict, InboxFull, LeaseLapsed, SessionClosed, SessionNotFound, StartTooLate, TailMismatch,
    TaskEnded, TaskLost, TaskNotFound, TransitionRefused,
)  # fmt: skip

workers = st.sampled_from(WORKERS)


class Refused(NamedTuple):
    """A refusal as a value: its class, and the fact that it tells."""

    kind: type[Exception]
    fact: object


def answer(call: Callable[[], T]) -> T | Refused:
    """Return what the call returns, or its refusal."""
    try:
        return call()
    except REFUSALS as refusal:
        facts = (getattr(refusal, name, None) for name in ("attempt", "state"))
        return Refused(type(refusal), next((fact for fact in facts if fact is not None), None))


def step(often: int = 1, **arguments: st.SearchStrategy[Any]) -> Callable[[Step], Step]:
    """Let a machine take this step, so many times as often as others.

    hypothesis' own `rule` leaves many rules out of each example and repeats those that are left. What is to be seen
    here needs nearly all of them, in turn: with `rule` one task in seven got as far as a second attempt, with this
    nearly one in two.
    """

    def mark(method: Step) -> Step:
        method.often, method.arguments = often, st.fixed_dictionaries(arguments)  # type: ignore[attr-defined]
        return method

    return mark


class Machine(RuleBasedStateMachine):
    """A deployment of its own on a real server."""

    steps: st.SearchStrategy[tuple[str, dict[str, Any]]]

    def __init_subclass__(cls) -> None:
        marked = {name: method for name, method in inspect.getmembers(cls) if hasattr(method, "often")}
        names = st.sampled_from([name for name, method in marked.items() for _ in range(method.often)])
        cls.steps = names.flatmap(lambda name: st.tuples(st.just(name), marked[name].arguments))

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.calls = self.run(Calls.open(url))

    def teardown(self) -> None:
        self.run(self.calls.close())
        self.runner.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        # As `runner.run` does, which also minds signals, each time anew: half of these tests' time.
        return self.runner.get_loop().run_until_complete(call)

    def agree(self, call: Coroutine[Any, Any, T], promised: Callable[[], T]) -> T | Refused:
        """Return the broker's answer, which must be the one that the model gives."""
        told = answer(lambda: self.run(call))
        assert told == answer(promised)
        return told

    @rule(taken=st.runner().flatmap(lambda machine: machine.steps))
    def step(self, taken: tuple[str, dict[str, Any]]) -> None:
        name, arguments = taken
        getattr(self, name)(**arguments)
