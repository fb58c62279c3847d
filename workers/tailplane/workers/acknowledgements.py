"""Lets the queue forget tasks that have ended: those that end in one turn of the loop together."""

import asyncio
from dataclasses import dataclass, field

from tailplane.broker import Claim, Queue
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import WorkerId


@dataclass(slots=True)
class _Batch:
    claims: list[Claim] = field(default_factory=list)
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Acknowledgements:
    """What the attempts of one worker share."""

    def __init__(self, queue: Queue, worker: WorkerId) -> None:
        self._queue = queue
        self._worker = worker
        self._gathering: _Batch | None = None

    async def send(self, claim: Claim) -> None:
        """Return when the queue has forgotten a claimed task.

        Raises:
            StoreUnavailable: it may have, or not; send it again.
        """
        if self._gathering is not None:
            batch = self._gathering
            batch.claims.append(claim)
            await asyncio.shield(batch.done)
            return
        # The first one sends for all who come in this turn.
        batch = self._gathering = _Batch([claim])
        try:
            await asyncio.sleep(0)
            self._gathering = None
            await self._queue.acknowledge(self._worker, *batch.claims)
        except BaseException:
            self._gathering = None if self._gathering is batch else self._gathering
            # Also where this one is cancelled: the others try for themselves.
            if len(batch.claims) > 1:
                batch.done.set_exception(StoreUnavailable())
            raise
        batch.done.set_result(None)
