"""What all handles of one client share, and who owns the asyncio tasks that run behind them.

No task is loose: each belongs to the TaskOwner of its client, which ends and awaits them when the client closes.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tailplane.client.event_models import EventModels
from tailplane.client.models import TaskStatus, parse
from tailplane.client.transport import Transport, path

T = TypeVar("T")


class TaskOwner:
    """The asyncio tasks of one client."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Task[None]] = set()
        self._sheltered: set[asyncio.Task[Any]] = set()

    def start_reader(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a reader until it ends, is cancelled by its stream, or the client closes."""
        task = asyncio.create_task(work, name=name)
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)
        return task

    async def shelter(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; it goes on to its end when the caller is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._sheltered.add(task)
        task.add_done_callback(self._sheltered.discard)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Cancel the readers, let sheltered work come to its end, and await both."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, *self._sheltered, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Link:
    """The way from handles (Task, Session, streams) to the control plane."""

    transport: Transport
    models: EventModels
    owner: TaskOwner = field(default_factory=TaskOwner)

    async def status(self, task_id: str) -> TaskStatus:
        """Return a task as it stands."""
        answer = await self.transport.request("GET", path("tasks", task_id))
        return parse(TaskStatus, answer.value)
