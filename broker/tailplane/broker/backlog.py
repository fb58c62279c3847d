"""Looks at what waits in the queue: how much, since when, and what. Nothing is moved.

What waits is in a due set of its queue, one of each class, or blocked: due, but its concurrency key is full. A queue is
of one tenant and workflow (`keys.queue_name`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from tailplane.broker.keys import Keys, TaskRef, queue_name, workflow_of
from tailplane.broker.store import Command
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.priorities import Priority


class Backlog(NamedTuple):
    """What waits in one queue.

    Attributes:
        depth: how many tasks, those that are not due yet included.
        oldest_s: for how many seconds the first of them has been due, by the server's clock; 0: none is due.
    """

    depth: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Looks:
    """The queue, for whoever looks. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def depth(self, queue: str) -> int:
        """Return how many tasks wait in a queue, not due yet and waiting for their key included."""
        return sum(await self._counts(queue))

    async def queues(self, limit: int, after: str = "") -> list[str]:
        """Return names of queues that have tasks, or had some of late, of tenants other than the default one.

        Args:
            after: the last of those that were returned before; "": from the first one on. In the order of workflows.
        """
        workflow, tenant = workflow_of(after), after.rpartition("/")[0]
        first = f"({workflow}/{tenant}" if after else "-"
        last = f"({self.keys.TURNS_VERSION}"
        rows = await self.wire.run("ZRANGE", self.keys.turns, first, last, "BYLEX", "LIMIT", 0, limit)
        found = [row.decode().split("/") for row in rows]
        return [queue_name(tenant, workflow) for workflow, tenant in found]

    async def backlogs(self, queues: Sequence[str]) -> dict[str, Backlog]:
        """Return what waits in these queues."""
        if not queues:
            return {}
        commands: list[Command] = []
        for name in queues:
            commands += self._count(name)
            commands += [("ZRANGE", due, 0, 0, "WITHSCORES") for due in self._dues(name)]
        now = await self.now_ms()
        replies = await self.wire.call(commands)
        raise_refusals(replies)
        found = {}
        for at, name in enumerate(queues):
            *counts, high, normal, low = replies[7 * at : 7 * at + 7]
            oldest = min((float(first[1]) for first in (high, normal, low) if first), default=now)
            found[name] = Backlog(sum(counts), max(0.0, (now - oldest) / 1000))
        return found

    def _dues(self, queue: str) -> list[str]:
        return [self.keys.due(queue, priority) for priority in Priority]

    def _count(self, queue: str, most: str = "+inf") -> list[Command]:
        """Return what counts a queue's tasks that are due until then, class by class, and those that are blocked."""
        due: list[Command] = [("ZCOUNT", due, "-inf", most) for due in self._dues(queue)]
        return [*due, ("ZLEXCOUNT", self.keys.blocked, *_of_queue(queue))]

    async def _counts(self, queue: str, most: str = "+inf") -> list[int]:
        counts = await self.wire.call(self._count(queue, most))
        raise_refusals(counts)
        return counts

    async def overdue(self, queue: str, after: timedelta, limit: int, skip: int = 0) -> list[TaskRef]:
        """Return tasks that have been due for longer than `after`, without the first `skip`.

        Class by class, the longest due first; behind them those that wait for their key, however long.
        """
        before = str(await self.now_ms() - int(after.total_seconds() * 1000))
        counts = await self._counts(queue, before)
        found: list[TaskRef] = []
        for count, due in zip(counts, [*self._dues(queue), None], strict=True):
            if skip < count and len(found) < limit:
                page = ("LIMIT", skip, limit - len(found))
                if due:
                    rows = await self.wire.run("ZRANGEBYSCORE", due, "-inf", before, *page)
                else:
                    rows = await self.wire.run("ZRANGEBYLEX", self.keys.blocked, *_of_queue(queue), *page)
                found += [TaskRef.from_member(row.rpartition(b"\n")[2]) for row in rows]
            skip = max(0, skip - count)
        return found

    async def waits(self, tasks: Sequence[tuple[TaskRef, str]]) -> list[bool]:
        """Return of each of these tasks, with its workflow, whether it waits: due, later, or for its key."""
        commands: list[Command] = []
        for task, workflow in tasks:
            dues = self._dues(queue_name(task.tenant, workflow))
            commands += [("ZSCORE", due, task.member) for due in dues]
            commands.append(("HGET", self.keys.terms, task.member))
        replies = await self.wire.call(commands)
        raise_refusals(replies)
        # Its terms end with the time since when it is due, where it is blocked.
        return [
            any(score is not None for score in replies[at : at + 3])
            or (replies[at + 3] is not None and not replies[at + 3].endswith(b"\n"))
            for at in range(0, len(replies), 4)
        ]

    async def now_ms(self) -> int:
        """Return the server's time, in ms since the epoch."""
        seconds, micros = await self.wire.run("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


def _of_queue(queue: str) -> tuple[str, str]:
    """Return the bounds of a queue's blocked tasks."""
    return f"[{queue}\n", f"({queue}\v"
