"""What one attempt's run of llama-index-workflows has done, and what of it is remembered.

The engine's loop takes a tick, says so (`note`), publishes what follows from it (`publish`) and, when there are no
more, says that it will start the next steps and wait (`settle`). There the ticks are appended to the task's memory,
together with the events of the steps that they tell the end of. So the order is:

1. a step runs and writes events; a crash here takes them back, and the step runs again;
2. its result becomes a tick, and what that publishes is written;
3. both are sealed in one script; from here on the step does not run again, and its events stand;
4. only then the steps that follow are started.

Ticks between two ends of steps are made again by the engine when it goes on from the last entry, and wait for the next.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable

from workflows.events import Event, InternalDispatchEvent, StopEvent, WorkflowIdleEvent
from workflows.plugins.basic import BasicRuntime, JournalRecord
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.plugin import ExternalRunAdapter
from workflows.runtime.types.results import AddWaiter, DeleteWaiter, StepWorkerFailed, StepWorkerResult
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickIdleCheck, TickStepResult, TickWaiterTimeout, WorkflowTick

from tailplane.protocol.errors import Unserialisable
from tailplane.workers.branches import CURRENT, Branch
from tailplane.workers.context import Context
from tailplane.workers.engines.llama_journal import Past, StateDiary, Wait, Waiter, pack_entry, with_requirements


def _ignore() -> None:
    pass


class Ledger:
    """The doings of one run. All of it is called on the loop of the workflows.

    Attributes:
        failure: why an event could not be written; None: all were.
        is_resting: nothing runs, and nothing will before an event comes from outside or a time is up.
        changed: set when `is_resting` or `waits` may have become another.
        on_work: called when the run goes on after a rest.
        waits: the steps that wait for an event in `ctx.wait_for_event`.
        awaited: the classes of what they wait for, or have waited for, by name.
    """

    def __init__(self, runtime: BasicRuntime, past: Past, context: Context) -> None:
        self._runtime = runtime
        self._context = context
        self._goes_on = bool(past.records)
        self._diary = StateDiary(past.state)
        self._run: ExternalRunAdapter | None = None
        self._journal: AsyncIterator[JournalRecord] | None = None
        self._ticks = 0
        self._with_waits: dict[int, TickStepResult] = {}
        self._has_news = False
        self._message: int | None = None
        self._expected: dict[int, tuple[Event, int]] = {}
        self._branches: dict[tuple[str, int], Branch] = {}
        self._ended: list[Branch] = []
        self._changed_waits: dict[Waiter, Wait | None] = {}
        self._is_idle = False
        # A lock of asyncio is fair: events that had to wait for room come in the order in which they were written.
        self._order = asyncio.Lock()
        self._timers: list[asyncio.TimerHandle] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.failure: Exception | None = None
        self.is_resting = False
        self.changed = asyncio.Event()
        self.on_work: Callable[[], None] = _ignore
        self.waits = dict(past.waits)
        self.awaited: dict[str, type[Event]] = {}

    def mend(self, state: BrokerState) -> None:
        """Give waiters their requirements, which the engine does not keep: it would run their steps again for them."""
        for step, worker in state.workers.items():
            for waiter in worker.collected_waiters:
                self.awaited[waiter.waiting_for_event.__name__] = waiter.waiting_for_event
                wait = self.waits.get((str(step), waiter.waiter_id))
                if wait is not None and wait.requirements:
                    waiter.requirements = wait.requirements

    def open(self, run: ExternalRunAdapter) -> None:
        """Begin, as the run does; what was to time out is set anew, for the engine forgets it."""
        self._run = run
        self._journal = self._runtime.journal(run.run_id)
        if self._goes_on:
            # By itself the engine looks whether there is anything to do only when something has been done.
            self._send(TickIdleCheck())
        loop = asyncio.get_running_loop()
        for waiter, wait in self.waits.items():
            if wait.due is not None:
                self._timers.append(loop.call_later(max(0.0, wait.due - time.time()), self._time_out, waiter))

    def close(self) -> None:
        """Take no more events: the run is over, or this attempt's part of it."""
        self._is_closed = True
        for timer in self._timers:
            timer.cancel()

    @property
    def left(self) -> float | None:
        """In how many seconds a step is to be told that what it waits for has not come; None: never."""
        dues = [wait.due for wait in self.waits.values() if wait.due is not None]
        return max(0.0, min(dues) - time.time()) if dues else None

    @property
    def awaited_names(self) -> set[str]:
        """The names of what steps wait for now."""
        return {wait.event for wait in self.waits.values()}

    def expect(self, event: Event, message: int) -> None:
        """Note that an event which is sent to the run is a message's."""
        self._expected[id(event)] = (event, message)
        self._rouse()

    async def publish(self, event: Event) -> None:
        """Write what goes to the stream; what is the engine's own, and its last word, does not."""
        if isinstance(event, WorkflowIdleEvent):
            self._is_idle = True
        if isinstance(event, InternalDispatchEvent | StopEvent) or self._is_closed:
            return
        try:
            async with self._order:
                await self._context.emit(event)
        except Exception as error:
            # The engine would only log it, and go on without the event.
            self.failure = self.failure or error
            raise

    def begin(self, step: str, worker: int) -> contextvars.Context:
        """Return the context for a step that starts in one of its workers: what it writes and logs is told apart."""
        branch = self._branches[step, worker] = self._context.memory.branch(step)
        context = contextvars.copy_context()
        context.run(CURRENT.set, branch)
        return context

    def note(self, tick: WorkflowTick) -> None:
        """Note a tick that the engine has taken; what follows from it is not done yet."""
        self._ticks += 1
        match tick:
            case TickIdleCheck():
                return
            case TickStepResult():
                self._has_news = True
                if branch := self._branches.pop((str(tick.step_id), tick.worker_id), None):
                    self._ended.append(branch)
                if any(isinstance(result, AddWaiter) for result in tick.result):
                    self._with_waits[self._ticks - 1] = tick
                self._note_waits(tick)
            case TickAddEvent() if expected := self._expected.pop(id(tick.event), None):
                self._has_news = True
                self._message = expected[1]
        self._rouse()

    async def settle(self, *, is_working: bool) -> None:
        """Remember what there is to remember, before the next steps start.

        Args:
            is_working: whether a step runs, or is about to.
        Raises:
            Unserialisable: the engine's serialiser can't write an event or the state.
            Exception: what an event could not be written for.
        """
        if self.failure is not None:
            raise self.failure
        if self._has_news:
            await self._append()
        if self._is_idle and not is_working and not self.is_resting:
            self.is_resting = True
            self.changed.set()

    def _rouse(self) -> None:
        self._is_idle = False
        if self.is_resting:
            self.is_resting = False
            self.on_work()

    def _note_waits(self, tick: TickStepResult) -> None:
        has_completed = any(isinstance(result, StepWorkerResult) for result in tick.result)
        for result in tick.result:
            if isinstance(result, AddWaiter):
                waiter = (str(tick.step_id), result.waiter_id)
                self.awaited[result.event_type.__name__] = result.event_type
                if waiter in self.waits:
                    # The engine keeps the first time-out, too.
                    due = self.waits[waiter].due
                else:
                    due = None if result.timeout is None else (tick.stamped_at or time.time()) + result.timeout
                wait = Wait(result.event_type.__name__, due, result.requirements)
                self.waits[waiter] = self._changed_waits[waiter] = wait
                self.changed.set()
            elif isinstance(result, DeleteWaiter):
                waiter = (str(tick.step_id), result.waiter_id)
                wait = self.waits.pop(waiter, None)
                # The engine keeps the waiter of a step that has failed: that its time is up counts for a next try.
                if wait is not None and not has_completed:
                    self.waits[waiter] = wait = wait if _is_retried(tick) else wait._replace(due=None)
                self._changed_waits[waiter] = None if has_completed else wait

    async def _append(self) -> None:
        assert self._run is not None
        assert self._journal is not None
        try:
            records = [await anext(self._journal) for _ in range(self._ticks)]
            for index, tick in self._with_waits.items():
                records[index] = with_requirements(records[index], tick)
        except ValueError as error:
            raise Unserialisable(
                f"an event between two steps can't be kept: {error.__context__ or error}",
                hint="events must be what pydantic can turn into JSON and back",
            ) from error
        try:
            state = self._diary.note(self._runtime.state_checkpoint(self._run.run_id).to_dict())
        except (ValueError, TypeError) as error:
            raise Unserialisable(
                f"the state of the workflow can't be kept: {error}",
                hint="`ctx.store` must hold what pydantic can turn into JSON and back",
            ) from error
        entry = pack_entry(records, self._message, self._changed_waits, state)
        ended, self._ended = self._ended, []
        self._ticks, self._has_news, self._message, self._changed_waits, self._with_waits = 0, False, None, {}, {}
        await self._context.memory.append(entry, ended)

    def _time_out(self, waiter: Waiter) -> None:
        step, waiter_id = waiter
        self._send(TickWaiterTimeout(step_id=StepId.from_str(step), waiter_id=waiter_id))

    def _send(self, tick: WorkflowTick) -> None:
        assert self._run is not None
        task = asyncio.ensure_future(self._run.send_event(tick))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


def _is_retried(tick: TickStepResult) -> bool:
    decisions = [result.retry_decision for result in tick.result if isinstance(result, StepWorkerFailed)]
    return any(decision is not None and decision.delay is not None for decision in decisions)
