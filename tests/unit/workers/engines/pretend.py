"""A task's stream and memory without Redis: what is sealed stands, the rest is taken back when an attempt begins."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from workflows import Workflow
from workflows.events import Event, StartEvent

from tailplane.protocol import codec
from tailplane.workers.branches import CURRENT, Branch
from tailplane.workers.engines.llama_run import Run
from tailplane.workers.engines.llama_runtime import LedgerRuntime
from tailplane.workers.engines.llama_workflows import runtime_for

#: Seconds after which a test has failed; none that passes comes near it.
PATIENCE = 20.0


class Said(NamedTuple):
    """A message."""

    number: int
    type: str | None
    data: Any


@dataclass
class Written:
    """An event of the stream."""

    event: tuple[str, Any]
    branch: Branch | None
    stands: bool = False


def shown(event: Event) -> tuple[str, Any]:
    """Return an event as readers see it."""
    return type(event).__name__, codec.dump_model(event)


@dataclass
class PretendTask:
    """A task with its stream, its memory and its inbox; to the run it is the context and the memory.

    Attributes:
        parks: whether to rest ends the attempt.
        dies_at: which of its points kills it: before each event, before and after each entry; None: none.
        points: how many it has passed.
        pauses: how many turns of the loop an entry takes once it is there.
        refused: the messages that were told not to be taken, with the reason.
        answer: what a human answers to an event, once; None: nothing.
    """

    parks: bool = False
    dies_at: int | None = None
    points: int = 0
    pauses: int = 1
    answer: Callable[[str, Any], tuple[str | None, Any] | None] = lambda type_, data: None
    stream: list[Written] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    inbox: list[Said] = field(default_factory=list)
    attempts: int = 0
    has_ever_died: bool = False
    _is_dead: bool = False
    _is_parked: bool = False
    _within: float | None = None
    _answered: list[Any] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _main: "asyncio.Task[Any] | None" = None

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [each.event for each in self.stream]

    def send(self, type_: str | None, data: Any) -> None:
        """Put a message into the inbox."""
        self.inbox.append(Said(len(self.inbox) + 1, type_, data))
        self._came.set()

    @property
    def memory(self) -> "PretendTask":
        return self

    def branch(self, step: str) -> Branch:
        return Branch("~", step)

    async def message(self, after: int, within: float | None = None) -> Said:
        while len(self.inbox) <= after:
            if self.parks and asyncio.current_task() is self._main:
                self._is_parked = True
                self._within = within
                self._main.cancel()
            self._came.clear()
            await self._came.wait()
        return self.inbox[after]

    async def emit(self, event: Event, *, channel: str | None = None) -> None:
        self._live()
        self.stream.append(Written(shown(event), CURRENT.get()))

    async def append(self, entry: bytes, ended: Iterable[Branch] = ()) -> None:
        self._live()
        self.entries.append(entry)
        done = [None, *ended]
        for each in self.stream:
            each.stands = each.stands or any(each.branch is branch for branch in done)
        self._live()
        # As if it took a while.
        for _ in range(self.pauses):
            await asyncio.sleep(0)

    async def refuse(self, message: Said, error: str, entry: bytes) -> None:
        self._live()
        self.entries.append(entry)
        self.refused.append((message.number, error))
        self._live()
        await asyncio.sleep(0)

    def kill(self) -> None:
        """Let the attempt die."""
        self._is_dead = self.has_ever_died = True
        assert self._main is not None
        self._main.cancel()

    def _live(self) -> None:
        if self.points == self.dies_at:
            self.kill()
        self.points += 1
        if self._is_dead:
            raise asyncio.CancelledError

    def _answer_all(self) -> None:
        """Answer what has been asked and stands: a human reads it some time later."""
        for each in self.stream:
            answer = self.answer(*each.event)
            if answer is not None and each.stands and each.event not in self._answered:
                self._answered.append(each.event)
                self.send(*answer)

    async def attempt(self, workflow: Workflow, start: StartEvent) -> Any:
        """Run the next attempt; return its result, or None where it died or was parked."""
        self.attempts += 1
        self._is_dead = self._is_parked = False
        self.stream = [each for each in self.stream if each.stands]
        runtime: LedgerRuntime = runtime_for(workflow, LedgerRuntime)
        run = Run(workflow, runtime, self, f"{id(self)}.{uuid4()}")
        self._main = asyncio.ensure_future(run.result(start))
        async with asyncio.timeout(PATIENCE):
            while not self._main.done():
                self._answer_all()
                await asyncio.sleep(0)
        if self._main.cancelled():
            assert self._is_dead or self._is_parked
            return None
        return self._main.result()

    async def run(self, workflow: Workflow, start: StartEvent) -> Any:
        """Run attempts until there is a result."""
        while True:
            result = await self.attempt(workflow, start)
            self._answer_all()
            if not (self._is_dead or self._is_parked):
                return result
            if self._is_parked and self._within is not None:
                await asyncio.sleep(self._within)
