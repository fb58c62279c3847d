"""How a claimed task leaves its worker: forgotten, given back to the queue, or parked. Patient where Redis is away."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from tailplane.broker import Claim
from tailplane.broker.parking import Parked
from tailplane.protocol.errors import StoreForbidden, StoreUnavailable
from tailplane.protocol.states import State
from tailplane.workers.platform_side import Platform

log = structlog.get_logger("tailplane.workers")

_STORE_PAUSE = 0.2


class Release:
    """The ways of one claim out of its worker.

    Args:
        is_lost: whether the task is in other hands: then its claim is none of ours to release.
    """

    def __init__(self, platform: Platform, claim: Claim, is_lost: Callable[[], bool]) -> None:
        self._platform = platform
        self._claim = claim
        self._is_lost = is_lost
        self._is_refused = False

    async def acknowledge(self, state: State | None = None) -> None:
        """Forget the claim; of a task that has failed, first put it onto the list of dead letters."""
        while not self._is_lost():
            try:
                await self.note_if_failed(state)
                await self._platform.acknowledgements.send(self._claim.task)
                return
            except StoreUnavailable as error:
                await self.pause(error)

    async def requeue(self, delay: timedelta) -> None:
        """Give the task back to its queue, due after `delay`."""
        while not self._is_lost():
            try:
                await self._platform.broker.queue.requeue(self._platform.worker, self._claim, delay)
                return
            except StoreUnavailable as error:
                await self.pause(error)

    async def park(self, until: float | None, known: int) -> None:
        """Park a task whose record says that it waits, unless there is a message that it does not know of.

        Args:
            until: when it is to run again in any case; None: never.
            known: how many messages the attempt knew of.
        """
        broker, task = self._platform.broker, self._claim.task
        while not self._is_lost():
            try:
                if not await broker.parking.park(self._platform.worker, self._claim, until):
                    return
                # Who delivers looks among the parked, after the message is there: one that came before this task was
                # parked is seen by this look, one that comes after is seen by him. Should we die in between, whoever
                # looks after the parked finds it.
                if await broker.inbox.count(task) > known:
                    await broker.parking.unpark(Parked(task, self._claim.workflow))
                return
            except StoreUnavailable as error:
                await self.pause(error)

    async def note_if_failed(self, state: State | None) -> None:
        """Put a task that has failed onto the list of dead letters.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        # Before the claim is acknowledged: should we die in between, whoever gets it next does it.
        if state is State.FAILED:
            await self._platform.broker.catalogue.note_dead(self._claim.task)
            self._platform.counts.dead_letters[self._claim.workflow,] += 1

    async def pause(self, why: StoreUnavailable) -> None:
        """Wait a moment before the next try."""
        # Of a store that is away others tell; what only this attempt asks for may be refused to nobody else.
        if isinstance(why, StoreForbidden) and not self._is_refused:
            self._is_refused = True
            log.error("Redis refuses", reason=str(why))
        await asyncio.sleep(_STORE_PAUSE)
