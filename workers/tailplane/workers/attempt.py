"""One attempt of a task, as a pipeline of steps: begin, run, end, acknowledge. Runs on the platform's loop.

An attempt is stopped from outside by `stop`: because somebody cancelled the task, its time is up, its worker drains, or
the task was lost to another attempt. The workflow's code gets a moment to unwind; if it does not (code that blocks
can't be interrupted) the task ends without it, and what it still writes is refused.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Any

import structlog
from opentelemetry.trace import INVALID_SPAN, Span

from tailplane.broker import (
    Begun,
    Claim,
    Closing,
    HolderLost,
    ShardAway,
    StartTooLate,
    TailMismatch,
    TimeIsUp,
)
from tailplane.broker.logs import Facts, whose
from tailplane.broker.tasks import OUT_OF_TIME
from tailplane.broker.tracing import note_exception
from tailplane.protocol.errors import (
    StoreUnavailable,
    TailplaneError,
    TaskLost,
    TaskNotFound,
)
from tailplane.protocol.events import PlatformType
from tailplane.protocol.states import State, TransitionRefused, Trigger
from tailplane.workers.bridge import Bridge
from tailplane.workers.context import Context
from tailplane.workers.counts import Counts
from tailplane.workers.descriptions import describe, error_facts
from tailplane.workers.emitter import Emitter, Hooks
from tailplane.workers.endings import (
    Ending,
    cancelled,
    failed,
    failed_by_platform,
    handed_back,
    parked,
    retried,
    succeeded,
)
from tailplane.workers.family import PARENT_ENDED
from tailplane.workers.journal import Journal
from tailplane.workers.kept import EventsLost
from tailplane.workers.log_events import LogEvents, collecting
from tailplane.workers.patience import Patience
from tailplane.workers.platform_side import Platform
from tailplane.workers.release import Release
from tailplane.workers.retries import delay_before_retry
from tailplane.workers.runner import Outcome, Run
from tailplane.workers.session_state import SessionState
from tailplane.workers.survival import Survival
from tailplane.workers.tracing import attempting, given_back_fields, note_outcome
from tailplane.workers.workflow import Workflow

log = structlog.get_logger("tailplane.workers")

# However few retries an author allows, only a task that has lost so many workers counts as their cause.
_CRASHES_BORNE = 3
# How long a task goes back to the queue whose shard is away.
_SHARD_PAUSE = timedelta(seconds=2)


class Stop(Enum):
    """Why an attempt is stopped from outside."""

    CANCELLED = auto()
    TIMED_OUT = auto()
    OUT_OF_TIME = auto()
    DRAINED = auto()
    EVENTS_LOST = auto()
    PARKED = auto()
    LOST = auto()


class Attempt:
    """One attempt of a claimed task. `run` is called once."""

    def __init__(self, platform: Platform, claim: Claim, workflow: Workflow) -> None:
        self.claim = claim
        self._platform = platform
        self._workflow = workflow
        self._loop = asyncio.get_running_loop()
        # Set when there is something to do: the code has ended, or it is to be stopped.
        self._turn = asyncio.Event()
        self._may_have_begun = False
        self._stop: Stop | None = None
        self._reason: str | None = None
        self._emitter: Emitter | None = None
        self._run: Run | None = None
        self._outcome: Outcome | None = None
        self._unwound = asyncio.Event()
        self._began_at = 0.0
        self._span: Span = INVALID_SPAN
        self._log_events: LogEvents | None = None
        # Of its task, if it is the first attempt and has written nothing yet: how long it waited for its beginning.
        self._waited: float | None = None
        self._is_counted = False
        self._patience = Patience(lambda: self._stop is Stop.LOST)
        self._release = Release(platform, claim, self._patience)
        self._survival: Survival | None = None

    def stop(self, why: Stop, reason: str | None = None) -> None:
        """Stop the attempt; the first reason counts, but losing the task overrules all."""
        if self._stop is Stop.LOST:
            return
        # One that was only to be parked may be cancelled yet.
        if self._stop in (None, Stop.PARKED) or why is Stop.LOST:
            self._stop, self._reason = why, reason
        self._turn.set()
        if why is Stop.LOST and self._emitter is not None:
            self._emitter.lose(TaskLost(f"task {self.claim.task.task_id} is in other hands"))

    async def run(self) -> None:
        """Take the task from its claim to its end, or back into the queue. Its code may run on: see `unwound`."""
        # What a workflow logs by itself says whose it is, too.
        with Facts(**whose(self.claim.task), workflow=self.claim.workflow):
            begun = await self._patience.get(self._begin)
            if begun is None:
                return
            with Facts(attempt=begun.attempt), attempting(begun, self.claim) as self._span:
                try:
                    log.debug("attempt started", waited_ms=self.claim.waited // timedelta(milliseconds=1))
                    await self._run_code(begun)
                except TaskLost as error:
                    log.warning("attempt lost its task", reason=str(error))
                finally:
                    if self._survival is not None:
                        self._survival.close()
                    if not self._is_counted:
                        self._note_ended(None)

    def note_message(self) -> None:
        """Look at the task's inbox: somebody says that a message has come."""
        if self._survival is not None:
            self._survival.note_message()

    async def unwound(self) -> None:
        """Return when the workflow's code has really ended.

        Code that could not be interrupted keeps its slot until then, so that it does not pile up; its events are
        refused.
        """
        if self._run is not None:
            await self._unwound.wait()

    @property
    def unsent_bytes(self) -> int:
        """How many bytes of events Redis has not taken yet. Thread-safe."""
        return 0 if self._emitter is None else self._emitter.unsent_bytes

    @property
    def _journal(self) -> Journal | None:
        durable = None if self._survival is None else self._survival.durable
        return None if durable is None else durable.journal

    @property
    def _counts(self) -> Counts:
        return self._platform.counts

    def _note_ended(self, trigger: Trigger | None) -> None:
        self._is_counted = True
        self._counts.note_ended(
            self.claim.workflow, self.claim.task.tenant, trigger, self._loop.time() - self._began_at
        )

    async def _begin(self) -> Begun | None:
        """Try to begin the attempt; None: it is to run no code, and its claim is released.

        Raises:
            StoreUnavailable: try again.
        """
        if self._stop is not None:
            await self._release.requeue(timedelta())
            return None
        try:
            begun = await self._begin_or_end()
        except StoreUnavailable as error:
            if not isinstance(error, ShardAway) or self._may_have_begun:
                self._may_have_begun = True
                raise
            # Its place is for the tasks of other shards. What may have begun stays here: elsewhere it would count as
            # lost.
            await self._release.requeue(_SHARD_PAUSE)
            return None
        except TaskNotFound:
            # Of an ended task a record is kept for far longer than a claim: a failover has lost it, input and all.
            log.error("a queued task has no record: the store lost it")
            await self._release.acknowledge()
            return None
        except TransitionRefused as error:
            # Cancelled while it was on its way, or delivered twice: the record decides, there is nothing to run. Who
            # ended it may have died before it could note a failure.
            log.info("nothing to run", reason=str(error))
            begun = error.state
        if isinstance(begun, Begun):
            self._release.record = begun.record
            return begun
        self._counts.refused[self.claim.workflow,] += 1
        await self._release.acknowledge(begun)
        return None

    async def _begin_or_end(self) -> Begun | State | None:
        platform, tasks = self._platform, self._platform.broker.tasks
        options = self._workflow.options
        try:
            return await tasks.begin(
                self.claim.task,
                platform.worker,
                platform.host,
                takes_over=options.retry_on_crash,
                total_timeout=options.total_timeout,
                has_run=self.claim.task in platform.ran,
            )
        except HolderLost as lost:
            error = error_facts("worker_lost", "", "its worker was lost while it ran, and it may not run twice")
            state = await tasks.fail(self.claim.task, lost.attempt, error)
            platform.ran.discard(self.claim.task)
            return state
        except TimeIsUp as over:
            return await tasks.fail(self.claim.task, over.attempt, OUT_OF_TIME)
        except StartTooLate:
            data = {"reason": "it did not start in time"}
            return await tasks.end(self.claim.task, Trigger.EXPIRE, 0, PlatformType.EXPIRED, data)

    async def _run_code(self, begun: Begun) -> None:
        self._began_at = self._loop.time()
        platform, record = self._platform, begun.record
        self._counts.note_begun(record.workflow, begun.attempt)
        if begun.attempt == 1 and record.started_at is not None:
            self._waited = record.started_at - record.created_at
        hooks = Hooks(platform.writer.ring, self._lose, self._note_first_event, self._counts.note_full)
        options = self._workflow.options
        self._emitter = emitter = Emitter(
            begun,
            platform.limits,
            hooks,
            platform.budget,
            coalesces=options.on_full == "coalesce",
            keep_last=options.keep_last,
        )
        platform.kept.add(begun.opening)
        park = partial(self.stop, Stop.PARKED)
        self._survival = survival = Survival(platform, begun, emitter, self._on_platform, park)
        # What was lost before the latest step finished has not kept the task from going on.
        if record.failures - record.borne >= max(_CRASHES_BORNE, options.retries + 1):
            await self._close(
                begun, emitter, failed_by_platform("attempts_exhausted", "its workers were lost too often")
            )
            return
        if await self._patience.get(survival.is_orphan):
            await self._close(begun, emitter, cancelled(PARENT_ENDED))
            return
        durable = await self._patience.get(survival.load)
        if durable is None:
            return
        context = Context(
            task_id=record.task_id,
            attempt=begun.attempt,
            workflow=record.workflow,
            session_id=record.session_id,
            metadata=record.metadata,
            _emitter=emitter,
            _durable=durable,
            _blocks=options.on_full == "block",
            due_at=None if record.due_at is None else datetime.fromtimestamp(record.due_at, UTC),
            _session_state=SessionState(platform.broker, Bridge(self._loop), record.tenant, record.session_id),
        )
        if not options.retry_on_crash:
            platform.ran.add(self.claim.task)
        if options.log_level is not None:
            self._log_events = LogEvents(emitter, options.log_level, platform.limits.logs)
        # There alone: what the platform's libraries log of this attempt is none of its stream's business.
        with collecting(self._log_events):
            self._run = platform.runner.start(self._workflow, context, record.input, self._tell_end)
        if (how := await self._ending(begun, self._run)) is not None:
            try:
                await self._close(begun, emitter, how)
            finally:
                # Code that was to be parked waits on, and keeps its slot, if its task was lost meanwhile.
                self._run.cancel()
            if self._stop is not Stop.LOST:
                platform.ran.discard(self.claim.task)

    def _on_platform(self, call: Callable[..., object], *args: object) -> None:
        # The platform may have gone before code that was left behind.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(partial(call, *args))

    def _note_first_event(self) -> None:
        if self._waited is not None:
            took = self._loop.time() - self._began_at
            self._counts.note_first_event(self.claim.workflow, self._waited + took)
            self._waited = None

    def _lose(self, reason: TailplaneError) -> None:
        self.stop(Stop.EVENTS_LOST if isinstance(reason, EventsLost) else Stop.LOST)

    def _tell_end(self, outcome: Outcome) -> None:
        """Note how the code ended. On the workflows' loop."""
        self._on_platform(self._note_end, outcome)

    def _note_end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._unwound.set()
        self._turn.set()

    async def _ending(self, begun: Begun, run: Run) -> Ending | None:
        """Wait until the workflow ends or is stopped; None: the task is lost, there is nothing to write."""
        await self._until_ended_or_stopped(begun)
        if self._outcome is not None and self._stop not in (Stop.LOST, Stop.EVENTS_LOST):
            return self._ended_by_itself(begun, self._outcome)
        if self._stop is Stop.PARKED:
            # Its code goes on to wait until the record says so: what comes meanwhile is seen then.
            return parked()
        if self._stop in (Stop.DRAINED, Stop.TIMED_OUT) and self._journal is not None:
            # What clears up would take the places of what the next attempt does there.
            self._journal.is_stopped = True
        run.cancel()
        if self._stop is not Stop.LOST:
            await self._give_grace()
        match self._stop:
            case Stop.LOST:
                return None
            case Stop.CANCELLED:
                return cancelled(self._reason)
            case Stop.EVENTS_LOST:
                # Which ones are found when the task is ended.
                return failed_by_platform("events_lost", "the store lost events")
            case Stop.OUT_OF_TIME:
                return failed(OUT_OF_TIME)
            case Stop.DRAINED if not self._workflow.options.retry_on_crash:
                return failed_by_platform("worker_lost", "its worker was stopped before it had finished")
            case Stop.DRAINED:
                return handed_back(self._platform.worker)
            case _:
                timeout = self._workflow.options.timeout
                error = error_facts("timeout", "builtins.TimeoutError", f"the attempt took longer than {timeout}")
                return self._retry_or_fail(begun, TimeoutError(), error)

    async def _until_ended_or_stopped(self, begun: Begun) -> None:
        timers = []
        if timeout := self._workflow.options.timeout:
            timers.append(self._loop.call_later(timeout.total_seconds(), self.stop, Stop.TIMED_OUT))
        if (left := self._left(begun)) is not None:
            timers.append(self._loop.call_later(left, self.stop, Stop.OUT_OF_TIME))
        try:
            await self._turn.wait()
        finally:
            for timer in timers:
                timer.cancel()

    def _left(self, begun: Begun) -> float | None:
        """Return how many seconds the task has left over all attempts; None: as many as it likes."""
        record = begun.record
        if record.end_by is None or record.started_at is None:
            return None
        # Both by the server's clock; what has passed since by ours.
        return record.end_by - record.started_at - (self._loop.time() - self._began_at)

    async def _give_grace(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._platform.stop_grace.total_seconds()):
                await self._unwound.wait()

    def _ended_by_itself(self, begun: Begun, outcome: Outcome) -> Ending:
        error = outcome.error
        if error is not None and self._journal is not None:
            # However the code has taken it.
            error = self._journal.trouble or error
        if error is not None:
            return self._retry_or_fail(begun, error, describe(error))
        return succeeded(outcome.result)

    def _retry_or_fail(self, begun: Begun, raised: BaseException, error: dict[str, Any]) -> Ending:
        note_exception(self._span, raised)
        log.info("attempt failed", error_type=error["type"], code=error["code"])
        delay = delay_before_retry(self._workflow.options, begun.record.failures, raised)
        left = self._left(begun)
        if delay is None or (left is not None and delay.total_seconds() >= left):
            return failed(error)
        return retried(error, delay)

    async def _close(self, begun: Begun, emitter: Emitter, ending: Ending) -> None:
        if self._log_events is not None:
            self._log_events.close()
        rest = await emitter.seal()
        packed = [*rest.events, ending.event]
        fields = [*rest.fields, *ending.fields]
        if ending.delay is not None:
            fields += given_back_fields(self._span)
        survival = self._survival
        if ending.trigger is Trigger.WAIT and survival is not None:
            fields += survival.waiting_fields(emitter.seq + len(packed))
        closing = Closing(ending.trigger, begun.attempt, emitter.seq, packed, fields, worker=self._platform.worker)
        state, closing = await self._finish(closing)
        if state is None:
            return
        log.debug("attempt ended", state=state.value)
        note_outcome(self._span, closing.trigger.value, ending.error)
        written, tenant = self._platform.writer.written, self.claim.task.tenant
        written.note_stored(tenant, len(ending.event) + sum(map(len, fields)))
        if rest.events:
            written.note_rest(tenant, rest.events)
            self._note_first_event()
        self._note_ended(closing.trigger)
        if ending.trigger is Trigger.WAIT and self._run is not None:
            self._run.cancel()
            await self._give_grace()
        if survival is not None and state.is_terminal:
            await survival.cancel_children()
        # What is mended may have become a failure.
        if closing.trigger is Trigger.WAIT and survival is not None:
            await self._release.park(survival.until, survival.known)
        elif ending.delay is None or closing.trigger is Trigger.FAIL:
            await self._release.acknowledge(state)
        else:
            await self._release.requeue(ending.delay)

    async def _finish(self, closing: Closing) -> tuple[State | None, Closing]:
        """Return the state that the task has then, None if it was lost; and what has ended the attempt."""
        tasks = self._platform.broker.tasks
        while True:
            try:
                return await self._patience.get(partial(tasks.finish, self.claim.task, closing)), closing
            except TailMismatch:
                closing = await self._mended(closing)

    async def _mended(self, closing: Closing) -> Closing:
        """Return what can end the attempt after Redis has forgotten events that it had taken (a failover, a restart
        without persistence): the same once it has them again, else a failure.
        """
        believed = closing.after + closing.lost
        repair = partial(self._platform.kept.repair, self.claim.task, closing.attempt, believed)
        try:
            await self._patience.get(repair)
        except EventsLost as error:
            # Never call that success.
            log.error("the store lost events", believed=believed, last=error.last)
            ending = failed_by_platform(error.code, error.detail)
            return replace(
                closing,
                trigger=ending.trigger,
                after=error.last,
                packed=[ending.event],
                fields=ending.fields,
                lost=believed - error.last,
            )
        return closing
