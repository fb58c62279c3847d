"""What makes an attempt durable, put together: its journal, steps, waits and state. Built on the platform's side."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from tailplane.broker.memory import Memory, Message
from tailplane.protocol.ranges import Range
from tailplane.workers.arrivals import Arrivals
from tailplane.workers.branches import Branch
from tailplane.workers.bridge import Bridge
from tailplane.workers.children import Children
from tailplane.workers.emitter import Emitter
from tailplane.workers.family import Family
from tailplane.workers.journal import Journal
from tailplane.workers.steps import Steps
from tailplane.workers.task_state import TaskState
from tailplane.workers.waits import Waits


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far durable things may go.

    Attributes:
        value: bytes of msgpack, of a step's result or a value of the task's state.
        calls: how many durable calls a task may make.
        park_after: how long an attempt may wait for a message before its task is parked.
    """

    value: int
    calls: int
    park_after: timedelta


@dataclass(frozen=True, slots=True)
class Ways:
    """How an attempt's code reaches its platform; called on the workflows' loop.

    Attributes:
        now: the server's time, in seconds since the epoch.
        watch: lets the inbox be looked at, from now on.
        park: parks the task until that time (None: for ever), or until more messages have come than that many.
        bridge: leads to the platform's loop, and may be crossed from any.
    """

    now: Callable[[], float]
    watch: Callable[[], None]
    park: Callable[[float | None, int], None]
    bridge: Bridge


class Durable:
    """What one attempt's code can do durably.

    Args:
        memory: what earlier attempts left.
        opening: seqs of the first and the last event that stand with the attempt's beginning.
        failures: how many attempts had failed before.
        pool: the threads for steps that are not async.
    """

    def __init__(
        self,
        emitter: Emitter,
        memory: Memory,
        opening: Range,
        failures: int,
        pool: Executor,
        bounds: Bounds,
        ways: Ways,
        family: Family,
    ) -> None:
        self.journal = Journal(emitter, memory, opening, failures=failures, now=ways.now, most=bounds.calls)
        self.steps = Steps(self.journal, pool, bounds.value)
        self.state = TaskState(self.journal, bounds.value)
        taken = [record.message for record in memory.steps.values() if record.message]
        self.arrivals = Arrivals(memory.messages, memory.refused.union(taken), ways.watch)
        self.waits = Waits(self.journal, self.arrivals, bounds.park_after, ways.park)
        self.children = Children(self.journal, self.arrivals, self.waits, emitter, family, ways.bridge)
        self.memory = EngineMemory(self.journal, self.waits)


class EngineMemory:
    """The journal that an engine of somebody else's keeps of its workflow, and the messages that come for it.

    Attributes:
        entries: what was appended in all attempts so far, in order.
    """

    def __init__(self, journal: Journal, waits: Waits) -> None:
        self._journal = journal
        self._waits = waits

    @property
    def entries(self) -> list[bytes]:
        return self._journal.memory.journal

    def branch(self, step: str) -> Branch:
        """Return a branch for one of several things that the engine does at once: what is written in it (see
        `branches.CURRENT`) stands only when an entry is appended that tells of its end.

        Args:
            step: what its events bear.
        """
        return self._journal.apart(step)

    async def append(self, entry: bytes, ended: Iterable[Branch] = ()) -> None:
        """Append an entry, and return when Redis has it. What was written before it stands from then on, but for what
        was written in branches that are not among those that have ended.

        Raises:
            TaskLost: the attempt is over.
        """
        await self._journal.checkpoint(entry, ended)

    async def refuse(self, message: Message, error: str, entry: bytes) -> None:
        """Say on the stream that a message is not taken, and append an entry that tells of it; Redis has both, or none.

        Nothing else stands by it: what is under way may be done again.

        Args:
            error: why.
        Raises:
            TaskLost: the attempt is over.
        """
        said = {"number": message.number, "type": message.type, "error": error}
        await self._journal.checkpoint_alone(entry, {"refused": said})

    async def message(self, after: int, within: float | None = None) -> Message:
        """Return the first message behind number `after`, and wait for it.

        In the workflow's own asyncio task, and while nothing else of it is under way, the task may be parked.

        Args:
            within: for how many seconds at the most it is parked; then it is begun again in any case. The wait itself
                does not end by it. None: however long it takes.
        """
        return await self._waits.after(after, within)
