"""The worker program: builds both sides of the process, runs them, and takes them down in order.

The main thread runs the workflows' loop. The platform thread has a loop of its own and does all that talks to Redis:
claims, event writer, lease, cancellations. Blocking workflow code can delay other workflows, never the platform.
"""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from importlib.metadata import version
from types import FrameType
from typing import Any

import structlog
import uvloop

from tailplane.broker import (
    Broker,
    Claim,
    TaskRef,
    WorkerRecord,
    connect,
    rights,
    trace_export,
    wait_until_fit,
)
from tailplane.broker.garbage import collect_seldom
from tailplane.broker.listener import Listener, Questions
from tailplane.broker.logs import Facts, configure_logging
from tailplane.broker.opening import open_broker
from tailplane.broker.tenant_labels import TenantLabels
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import WorkerId, new_worker_id
from tailplane.protocol.urls import mask_url
from tailplane.workers import control, log_events
from tailplane.workers.acknowledgements import Acknowledgements
from tailplane.workers.attempt import Attempt, Stop
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


def run_worker(workflows: Sequence[Workflow], settings: Settings) -> None:
    """Run workflows until SIGTERM or SIGINT, then drain and return. Call it in the main thread.

    Raises:
        ValueError: no workflows, or two of one name.
        UnfitStore: Redis may drop live streams, or refuses what a worker needs.
        PortTaken: there can be no probes and metrics on the port that is set for them.
        MetricsUnguarded: no token is set for metrics that others could read.
    """
    names = [workflow.name for workflow in workflows]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a worker needs workflows of different names, not {names}")
    configure_logging(settings.log_level, settings.log_format)
    if levels := [level for workflow in workflows if (level := workflow.options.log_level) is not None]:
        log_events.install(min(levels))
    end_of_traces = trace_export.start("tailplane-worker")
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    runner = Runner(loop, settings.concurrency, settings.max_event_bytes)
    platform = PlatformThread(workflows, settings, runner, end_of_traces)

    def drain(signum: int, _: FrameType | None) -> None:
        platform.drain(signal.Signals(signum).name)

    listener = _listen(platform, settings)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, drain)
    collect_seldom()
    platform.start()
    try:
        _run_until_ended(loop, platform)
    finally:
        platform.join()
        _unwind(loop)
        runner.close()
        platform.last_grace.cancel()
        loop.close()
        if listener is not None:
            listener.close()
        end_of_traces()
    if platform.error is not None:
        raise platform.error


def _listen(platform: "PlatformThread", settings: Settings) -> Listener | None:
    if settings.metrics_port is None:
        return None
    from tailplane.broker.exposition import expose
    from tailplane.workers.metrics import registry

    vitals, metrics = platform.vitals, partial(expose, registry(lambda: platform.parts))
    questions = Questions(vitals.live, vitals.ready, metrics)
    return Listener(settings.metrics_host, settings.metrics_port, questions, settings.metrics_token)


def _run_until_ended(loop: asyncio.AbstractEventLoop, platform: "PlatformThread") -> None:
    """Run the workflows' loop for as long as the platform lives, whatever authors' code does to it."""
    while not platform.has_ended:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            # Raised in a task that a workflow started by itself: asyncio lets these two end the loop.
            log.error("a task of a workflow tried to end the worker", type=type(error).__name__)


def _unwind(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what the loop still runs, and let it unwind: code in threads holds it up for `_LAST_GRACE` at most."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


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
        # Set when an attempt has ended.
        self._ended = asyncio.Event()
        self._attempts: dict[TaskRef, Attempt] = {}
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
            self._stop_all(Stop.DRAINED)
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
        settings = self._settings
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
            running=lambda: set(self._attempts),
            on_lost=self._lose,
        )
        queue = LeasedWorker(
            broker,
            me.worker_id,
            list(self._workflows.values()),
            self._run_attempt,
            concurrency=settings.concurrency,
            poll_every=settings.poll_every,
        )
        self.parts = Parts(self.vitals, self.watchdog, counts, writer, kept, lease, queue, broker, self._attempts)
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
                group.create_task(control.listen(broker, me.worker_id, self._cancel, self._note_message)),
                group.create_task(self.watchdog.watch()),
                group.create_task(tell_stored(broker.usage, writer.written)),
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
        attempt = Attempt(self._platform, claim, self._workflows[claim.workflow])
        if before := self._attempts.get(claim.task):
            # The queue has it from somewhere else (a failover, a lease that was lost): only one of ours may write.
            before.stop(Stop.LOST)
        self._attempts[claim.task] = attempt
        try:
            await attempt.run()
        finally:
            # Another attempt of the same task may stand there, if this one was lost and the queue gave it to us again.
            if self._attempts.get(claim.task) is attempt:
                del self._attempts[claim.task]
            self._ended.set()
        await attempt.unwound()

    def _cancel(self, task: TaskRef, reason: str | None) -> None:
        if attempt := self._attempts.get(task):
            attempt.stop(Stop.CANCELLED, reason)

    def _note_message(self, task: TaskRef) -> None:
        if attempt := self._attempts.get(task):
            attempt.note_message()

    def _lose(self, tasks: set[TaskRef]) -> None:
        for task in tasks:
            if attempt := self._attempts.get(task):
                attempt.stop(Stop.LOST)

    def _stop_all(self, why: Stop) -> None:
        for attempt in list(self._attempts.values()):
            attempt.stop(why)

    async def _let_finish(self) -> None:
        grace = self._settings.drain_grace.total_seconds()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until_idle(), grace)
        if self._attempts:
            log.info("handing back", tasks=len(self._attempts))
            self._stop_all(Stop.DRAINED)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._until_idle(), self._settings.stop_grace.total_seconds() + _HAND_BACK)

    async def _until_idle(self) -> None:
        while self._attempts:
            self._ended.clear()
            await self._ended.wait()
