"""Where llama-index-workflows lets others in: a runtime round its own that hands each run's doings to a `Ledger`.

The engine's control loop calls the adapter for every tick that its reducer has taken, every event that goes to the
stream, and each time before it waits. A run that has no ledger, such as that of a nested workflow, passes through.
"""

import asyncio
from typing import Any

from workflows import Workflow
from workflows.context.serializers import BaseSerializer
from workflows.events import Event, StartEvent
from workflows.plugins.basic import BasicRuntime, InternalAsyncioAdapter
from workflows.runtime.runtime_decorators import BaseInternalRunAdapterDecorator, BaseRuntimeDecorator
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.named_task import NamedTask, PendingStart, PendingWorker, WorkerTask
from workflows.runtime.types.plugin import ExternalRunAdapter, InternalRunAdapter, Runtime, WaitForNextTaskResult
from workflows.runtime.types.ticks import WorkflowTick

from tailplane.workers.engines.llama_ledger import Ledger

# Seconds that steps which are cancelled get to unwind, as the engine gives them.
_UNWINDING = 0.5


def basic_runtime_of(runtime: Runtime) -> BasicRuntime | None:
    """Return the engine's own runtime that runs a workflow, under whatever decorates it; None: it is another one."""
    while isinstance(runtime, BaseRuntimeDecorator):
        runtime = runtime._decorated
    return runtime if isinstance(runtime, BasicRuntime) else None


class LedgerRuntime(BaseRuntimeDecorator):
    """The runtime of a workflow that is served.

    Attributes:
        ledgers: by run id, of the runs that have one.
    """

    def __init__(self, decorated: Runtime) -> None:
        super().__init__(decorated)
        self.ledgers: dict[str, Ledger] = {}

    def run_workflow(
        self,
        run_id: str,
        workflow: Workflow,
        init_state: BrokerState,
        start_event: StartEvent | None = None,
        serialized_state: dict[str, Any] | None = None,
        serializer: BaseSerializer | None = None,
    ) -> ExternalRunAdapter:
        """Start a run."""
        ledger = self.ledgers.get(run_id)
        if ledger is not None:
            ledger.mend(init_state)
        run = super().run_workflow(run_id, workflow, init_state, start_event, serialized_state, serializer)
        if ledger is not None:
            ledger.open(run)
        return run

    def get_internal_adapter(self, workflow: Workflow) -> InternalRunAdapter:
        """Return what the engine talks to, in a run or a step of it."""
        adapter = super().get_internal_adapter(workflow)
        ledger = self.ledgers.get(adapter.run_id)
        return adapter if ledger is None else LedgerAdapter(adapter, ledger)


class LedgerAdapter(BaseInternalRunAdapterDecorator):
    """What the engine talks to in a run that has a ledger."""

    def __init__(self, decorated: InternalRunAdapter, ledger: Ledger) -> None:
        super().__init__(decorated)
        self._ledger = ledger

    async def write_to_event_stream(self, event: Event) -> None:
        """Publish an event."""
        # In the engine's own queue, which nobody reads, they would gather for as long as the run takes.
        if not isinstance(self._decorated, InternalAsyncioAdapter):
            await super().write_to_event_stream(event)
        await self._ledger.publish(event)

    async def on_tick(self, tick: WorkflowTick) -> None:
        """Note a tick, before what follows from it is done."""
        await super().on_tick(tick)
        self._ledger.note(tick)

    async def wait_for_next_task(
        self, running: list[NamedTask], pending: list[PendingStart], timeout: float | None = None
    ) -> WaitForNextTaskResult:
        """Start what is pending and wait for the next one that ends."""
        is_working = any(isinstance(task, WorkerTask | PendingWorker) for task in (*running, *pending))
        try:
            # What follows from the ticks so far has been published; of the steps that they led to, none runs yet.
            await self._ledger.settle(is_working=is_working)
        except BaseException:
            # Nobody will start them.
            for start in pending:
                start.coro.close()
            raise
        started = [start.start(self._task(start)) for start in pending]
        try:
            result = await super().wait_for_next_task([*running, *started], [], timeout)
        except asyncio.CancelledError:
            # The engine does not know of them yet, and would let them run on.
            await _end({each.task for each in started})
            raise
        return WaitForNextTaskResult(result.completed, started)

    def _task(self, start: PendingStart) -> "asyncio.Task[Any]":
        if isinstance(start, PendingWorker):
            return asyncio.create_task(start.coro, context=self._ledger.begin(str(start.step_id), start.worker_id))
        return asyncio.create_task(start.coro)


async def _end(tasks: "set[asyncio.Task[Any]]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_UNWINDING)
