"""Which workflows there are, as workers registered them; read from Redis at most once a second."""

import asyncio
import time

from tailplane.broker import Queue, WorkflowRecord
from tailplane.protocol.errors import UnknownWorkflow

# Seconds. A changed schema is in force a second later; a new workflow at once, since a miss reads again.
CACHE_TTL = 1.0


class WorkflowRegistry:
    """A short-lived copy of the registered workflows."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._workflows: dict[str, WorkflowRecord] = {}
        self._read_at = -CACHE_TTL
        self._reading = asyncio.Lock()

    async def all(self) -> list[WorkflowRecord]:
        """Return all workflows, by name.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        await self._refresh(time.monotonic() - CACHE_TTL)
        return list(self._workflows.values())

    async def find(self, name: str) -> WorkflowRecord:
        """Return a workflow.

        Raises:
            UnknownWorkflow: no worker has registered it.
            StoreUnavailable: Redis does not answer.
        """
        asked_at = time.monotonic()
        await self._refresh(asked_at - CACHE_TTL)
        if name not in self._workflows:
            await self._refresh(asked_at)
        try:
            return self._workflows[name]
        except KeyError:
            raise UnknownWorkflow(
                f"no worker has registered a workflow {name[:128]!r}",
                hint="GET /v1/workflows lists those there are; is a worker running?",
            ) from None

    async def _refresh(self, not_before: float) -> None:
        """Read again, unless what we have was read after `not_before`: whoever waits shares one read."""
        if self._read_at > not_before:
            return
        async with self._reading:
            if self._read_at <= not_before:
                started = time.monotonic()
                self._workflows = await self._queue.workflows()
                self._read_at = started
