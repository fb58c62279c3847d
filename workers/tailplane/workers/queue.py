"""arq is the queue: this is the worker's arq, and the only module of the worker that imports it.

`LeasedWorker` keeps arq's sorted sets, function table, slots and bookkeeping, and replaces what stock arq does badly
for live
work: polling (a doorbell wakes an idle worker), running jobs at the head of the queue (a claim takes them out), a lock
    per job (one lease per process), pickle, and dying when Redis restarts. docs/decisions/0002 has the figures.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, cast

import arq
import structlog
from arq.connections import ArqRedis
from arq.worker import func

from tailplane.broker import Broker, Claim, Claims, LeaseLapsed, Outage, Room
from tailplane.broker.claims import MOST_CLAIMED
from tailplane.broker.logs import whose
from tailplane.protocol import codec
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import WorkerId
from tailplane.workers.turns import Turns
from tailplane.workers.workflow import Workflow

log = structlog.get_logger("tailplane.workers")

_STORE_PAUSE = 0.5
# Seconds between two claims of a busy worker: what is queued meanwhile goes through all stages together.
_PACE = 0.002

__all__ = ["ArqRedis", "LeasedWorker"]


class LeasedWorker(arq.Worker):
    """Claims due tasks and runs each in a slot until `pause` and the end of those that run.

    Args:
        run: runs one claimed task to its end; must not raise.

    Attributes:
        busy: by workflow, how many slots are taken: by tasks that run, and by code that was left behind.
        outage: whether Redis can't be asked.
    """

    def __init__(
        self,
        broker: Broker,
        worker: WorkerId,
        workflows: Sequence[Workflow],
        run: Callable[[Claim], Awaitable[None]],
        *,
        concurrency: int,
        poll_every: timedelta,
    ) -> None:
        async def execute(_: dict[Any, Any], claim: Claim) -> None:
            await run(claim)

        # arq's own types ask for its client and its jobs' signature.
        redis, coroutine = cast(ArqRedis, broker.redis), cast(Any, execute)
        super().__init__(
            [func(coroutine, name=workflow.name) for workflow in workflows],
            redis_pool=redis,
            queue_name=broker.keys.due(""),
            max_jobs=concurrency,
            poll_delay=poll_every,
            keep_result=0,
            handle_signals=False,
            job_serializer=codec.pack,
            job_deserializer=codec.unpack,
        )
        self._broker = broker
        self._worker = worker
        self._limits = {workflow.name: workflow.options.concurrency or concurrency for workflow in workflows}
        self._max_running = {workflow.name: workflow.options.max_running for workflow in workflows}
        self._turns = Turns()
        self.busy = dict.fromkeys(self._limits, 0)
        self._poll_every = poll_every
        self.outage = Outage("claims")
        # Set when something changed that a claim may profit from: a slot is free, or no more claims are wanted.
        self._changed = asyncio.Event()
        # The wait for a doorbell that outlived its look at the queue, and the workflows that it is for.
        self._ringing: asyncio.Task[None] | None = None
        self._rung_by: list[str] = []

    def pause(self) -> None:
        """Claim no more tasks; those that run go on."""
        self.allow_pick_jobs = False
        self._changed.set()

    async def abandon(self) -> None:
        """Wait no longer for code that was left behind: its tasks are in other hands."""
        left = list(self.tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def main(self) -> None:
        """Claim and start tasks until `pause`."""
        try:
            while self.allow_pick_jobs:
                self._changed.clear()
                try:
                    await self._claim_or_wait()
                    self.outage.over()
                except StoreUnavailable as error:
                    self.outage.noticed(error)
                    await asyncio.sleep(_STORE_PAUSE)
                except LeaseLapsed:
                    # The lease's keeper finds out as well, and begins a new one.
                    await asyncio.sleep(_STORE_PAUSE)
        finally:
            await self._stop_ringing()

    async def _claim_or_wait(self) -> None:
        free = self.max_jobs - self.job_counter
        room = {name: min(free, limit - self.busy[name]) for name, limit in self._limits.items()}
        open_to = [name for name, places in room.items() if places > 0]
        if not open_to:
            await self._changed.wait()
            return
        rooms = {name: Room(places, self._max_running[name]) for name, places in room.items()}
        claims, has_unseen = await self._claim(free, rooms)
        await self.start_jobs(claims.taken)
        if has_unseen or claims.next_due == timedelta():
            # There was more than one look may take; what it passed over is out of the way of the next.
            return
        if not claims.taken:
            await self._wait_for_work(open_to, min(self._poll_every, claims.next_due or self._poll_every))
        elif len(claims.taken) < min(free, MOST_CLAIMED):
            # An idle worker never comes here late: its next claim finds nothing, and it waits for the doorbell.
            await asyncio.sleep(_PACE)

    async def _claim(self, free: int, rooms: Mapping[str, Room]) -> tuple[Claims, bool]:
        """Return what was claimed, and whether there are tenants' queues that were not looked at and may have tasks."""
        queue, order = self._broker.queue, self._turns.order(rooms)
        claims = await queue.claim(self._worker, free, rooms, order)
        if claims.turned is not None:
            self._turns.learn(claims.turned)
            # Whatever has changed since: where tenants come and go all the time, it would not get to take anything.
            order = self._turns.order(rooms)._replace(version=None)
            claims = await queue.claim(self._worker, free, rooms, order)
        return claims, self._turns.note(order, claims)

    async def _wait_for_work(self, workflows: list[str], at_most: timedelta) -> None:
        if len(workflows) == len(self._limits) and self.allow_pick_jobs:
            await self._stop_ringing()
            await self._broker.queue.wait(workflows, at_most)
            return
        # Some workflow is at its limit: the end of one of its tasks makes room, which no doorbell tells. The wait for
        # the doorbell goes on meanwhile: to break it off costs a connection.
        if self._ringing is None or self._rung_by != workflows:
            await self._stop_ringing()
            self._ringing = asyncio.ensure_future(self._broker.queue.wait(workflows, self._poll_every))
            self._rung_by = workflows
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait(
                {self._ringing, changing}, timeout=at_most.total_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            changing.cancel()
        if self._ringing.done():
            ringing, self._ringing = self._ringing, None
            ringing.result()

    async def _stop_ringing(self) -> None:
        if self._ringing is not None:
            self._ringing.cancel()
            await asyncio.gather(self._ringing, return_exceptions=True)
            self._ringing = None

    async def start_jobs(self, claims: list[Claim]) -> None:  # type: ignore[override]
        """Start claimed tasks, each in a slot."""
        for claim in claims:
            await self.sem.acquire()
            self.job_counter += 1
            self.busy[claim.workflow] += 1
            task = self.loop.create_task(self.run_job(claim))
            self.tasks[claim.task.member] = task
            task.add_done_callback(partial(self._free, claim))

    async def run_job(self, claim: Claim) -> None:  # type: ignore[override]
        """Run one claimed task through arq's function table."""
        await self.functions[claim.workflow].coroutine(self.ctx, claim)

    def _free(self, claim: Claim, done: "asyncio.Task[None]") -> None:
        self._release_sem_dec_counter_on_complete()
        self.busy[claim.workflow] -= 1
        self._turns.ended(claim)
        if self.tasks.get(claim.task.member) is done:
            del self.tasks[claim.task.member]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("a task's attempt broke off", **whose(claim.task), workflow=claim.workflow, exc_info=error)
        self._changed.set()
