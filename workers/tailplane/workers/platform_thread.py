"""The platform thread: builds all that talks to Redis, runs it on a loop of its own, and takes it down in order.

Claims, the event writer, the lease, cancellations, and the attempts between them. Workflow code that blocks delays
other workflows of the process, never what runs here.
"""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any

import structlog
import uvloop

from tailplane.broker import (
    Broker,
    Claim,
    Outage,
    WorkerRecord,
    connect,
    rights,
    wait_until_fit,
)
from tailplane.broker.logs import Facts
from tailplane.broker.opening import open_broker
from tailplane.broker.tenant_labels import TenantLabels
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import WorkerId, new_worker_id
from tailplane.protocol.urls import mask_url
from tailplane.workers import control
from tailplane.workers.acknowledgements import Acknowledgements
from tailplane.workers.attempt import Attempt
from tailplane.workers.attempts import Attempts
from tailplane.workers.budget import Budget
from tailplane.workers.counts import Counts, Written
from tailplane.workers.emitter import Limits
from tailplane.workers.kept import Kept
from tailplane.workers.lease import Lease
from tailplane.workers.parts import Parts
from tailplane.workers.platform_side import Platform
from tailplane.workers.queue import ArqRedis, LeasedWorker
from tailplane.workers.readiness import Vitals
from tailplane.workers.runner import Runner
from tailplane.workers.settings import Settings
from tailplane.workers.stored import tell_once, tell_stored
from tailplane.workers.stream_bells import StreamBells
from tailplane.workers.watchdog import Watchdog
from tailplane.workers.workflow import Workflow
from tailplane.workers.writer import Writer

log = structlog.get_logger("tailplane.workers")

# Seconds: for handing tasks back after their grace; for code that does not let go when everything else has ended.
_HAND_BACK = 2.0
_LAST_GRACE = 2.0


class PlatformThread(threading.Thread):
    """The thread that talks to Redis. Stops the workflows' loop when it ends.

    Attributes:
        error: what ended it, if not a drain.
        has_ended: whether it has; changed on the workflows' loop.
        parts: where the metrics are found; None before it has any.
    """

    def __init__(
        self, workflows: Sequence[Workflow], settings: Settings, runner: Runner, end_of_traces: Callable[[], None]
    ) -> None:
        super().__init__(name="platform", daemon=True)
        self.error: BaseException | None = None
        self.has_ended = False
        self._workflows = {workflow.name: workflow for workflow in workflows}
        self._settings = settings
        self._runner = runner
        self._end_of_traces = end_of_traces
        self._loop = uvloop.new_event_loop()
        self._draining = asyncio.Event()
        self._attempts = Attempts()
        self.last_grace = threading.Timer(0, lambda: None)
        self.watchdog = Watchdog(runner.loop, settings.blocked_after)
        self.vitals = Vitals(self.watchdog, self._draining.is_set)
        self.parts: Parts | None = None

    def drain(self, why: str) -> None:
        """Take no new tasks, give running ones their grace, and end. From a signal handler or any thread."""
        # The loop is closed where a signal comes after the drain, while code that was left behind is waited for.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin_drain, why)

    def _begin_drain(self, why: str) -> None:
        if self._draining.is_set():
            log.warning("draining at once", signal=why, running=len(self._attempts))
            self._attempts.drain()
        else:
            log.info("draining", signal=why, running=len(self._attempts))
            self._draining.set()

    def run(self) -> None:
        """Run the platform's loop to its end."""
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            self.error = error
        finally:
            self._loop.close()
            self._runner.loop.call_soon_threadsafe(self._end)
            # Its tasks are in other hands by now: code that blocks the process' end is left behind.
            last = threading.Timer(_LAST_GRACE, self._leave_behind)
            last.daemon = True
            last.start()
            self.last_grace = last

    def _leave_behind(self) -> None:
        self._end_of_traces()
        os._exit(1 if self.error else 0)

    def _end(self) -> None:
        # Noted where the loop is stopped: who looked at the thread instead could find it alive, and run on for ever.
        self.has_ended = True
        self._runner.loop.stop()

    async def _main(self) -> None:
        settings = self._settings
        self.vitals.pulse.start()
        redis = connect(settings.redis_url, ArqRedis)
        worker_id = new_worker_id()
        try:
            # All that this thread runs, attempts included, is a part of this context.
            with Facts(worker_id=worker_id):
                async with open_broker(redis, settings) as broker:
                    await self._serve(broker, worker_id)
        finally:
            await redis.aclose(close_connection_pool=True)
            self.vitals.pulse.stop()

    async def _serve(self, broker: Broker, worker_id: WorkerId) -> None:
        settings, attempts = self._settings, self._attempts
        me = WorkerRecord(
            worker_id=worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("tailplane"),
            workflows=sorted(self._workflows),
            concurrency=settings.concurrency,
            started_at=0.0,
        )
        kept = Kept(broker.log, broker.tasks, me.worker_id, settings.kept_bytes)
        writer = Writer(broker.log, kept)
        tenants = TenantLabels(settings.metrics_tenants)
        writer.written, counts = Written(tenants), Counts(me.workflows, tenants)
        self._platform = Platform(
            broker=broker,
            acknowledgements=Acknowledgements(broker.queue, me.worker_id),
            writer=writer,
            kept=kept,
            runner=self._runner,
            worker=me.worker_id,
            host=me.host,
            limits=Limits(
                event=settings.max_event_bytes,
                entry=settings.max_entry_bytes,
                task=settings.task_buffer_bytes,
                emit=settings.emit_buffer_bytes,
                output=settings.max_output_bytes,
                events=settings.max_task_events,
                logs=settings.max_log_events,
                calls=settings.max_durable_calls,
            ),
            budget=Budget(settings.worker_buffer_bytes),
            stop_grace=settings.stop_grace,
            park_after=settings.park_after,
            bells=StreamBells(broker),
            counts=counts,
        )
        lease = self.vitals.lease = Lease(
            broker.queue,
            me,
            [workflow.record() for workflow in self._workflows.values()],
            length=settings.lease,
            renew_every=settings.renew_every,
            running=lambda: attempts.tasks,
            on_lost=attempts.lose,
        )
        queue = LeasedWorker(
            broker,
            me.worker_id,
            list(self._workflows.values()),
            self._run_attempt,
            concurrency=settings.concurrency,
            poll_every=settings.poll_every,
        )
        telling = Outage("counting what is stored")
        self.parts = Parts(self.vitals, self.watchdog, counts, writer, kept, lease, queue, broker, attempts, telling)
        log.info("worker starts", redis=mask_url(settings.redis_url), workflows=me.workflows)
        # First: what nobody has claimed yet, a server that may drop streams can't lose by our fault.
        fit = wait_until_fit(broker.redis, rights.of_worker(broker.keys), broker.shards)
        if not await self._unless_draining(fit):
            return
        if not await self._unless_draining(lease.begin()):
            return
        async with asyncio.TaskGroup() as group:
            # Attempts are started by arq's bookkeeping, and outlive none of these.
            keeping = group.create_task(lease.keep())
            minders = [
                group.create_task(writer.run()),
                group.create_task(
                    control.listen(broker, me.worker_id, self._attempts.cancel, self._attempts.note_message)
                ),
                group.create_task(self.watchdog.watch()),
                group.create_task(tell_stored(broker.usage, writer.written, telling)),
            ]
            claiming = group.create_task(queue.main())
            log.info("worker ready")
            await self._draining.wait()
            queue.pause()
            await self._let_finish()
            claiming.cancel()
            # First: a renewal that comes after the leave would find the lease lost, and register anew.
            keeping.cancel()
            await lease.leave()
            await queue.abandon()
            for minder in minders:
                minder.cancel()
            with contextlib.suppress(StoreUnavailable):
                await tell_once(broker.usage, writer.written)
            await self._platform.bells.aclose()
        log.info("worker ends")

    async def _unless_draining(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        task = asyncio.ensure_future(coroutine)
        draining = asyncio.ensure_future(self._draining.wait())
        await asyncio.wait({task, draining}, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        if not task.done():
            task.cancel()
            return False
        task.result()
        return True

    async def _run_attempt(self, claim: Claim) -> None:
        self._platform.counts.note_claim(claim.workflow, claim.task.tenant, claim.waited)
        await self._attempts.run(Attempt(self._platform, claim, self._workflows[claim.workflow]))

    async def _let_finish(self) -> None:
        attempts, settings = self._attempts, self._settings
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(attempts.until_idle(), settings.drain_grace.total_seconds())
        if attempts:
            log.info("handing back", tasks=len(attempts))
            attempts.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(attempts.until_idle(), settings.stop_grace.total_seconds() + _HAND_BACK)
