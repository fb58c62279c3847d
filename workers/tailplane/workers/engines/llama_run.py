"""One attempt's part of a run of llama-index-workflows: begun or gone on with, fed with messages, left or ended."""

import asyncio
from typing import Any

import structlog
from workflows import Workflow
from workflows.errors import WorkflowTimeoutError
from workflows.events import StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.runtime.types.plugin import as_v2_runtime_compatibility_shim

from tailplane.broker.memory import Message
from tailplane.protocol.errors import InvalidInput, WorkflowChanged
from tailplane.workers.context import Context
from tailplane.workers.engines.errors import EngineTimeout
from tailplane.workers.engines.llama_journal import Past, pack_refusal
from tailplane.workers.engines.llama_ledger import Ledger
from tailplane.workers.engines.llama_messages import answers_of, classes_of, event_of
from tailplane.workers.engines.llama_runtime import LedgerRuntime, basic_runtime_of

log = structlog.get_logger("tailplane.workers")


class Run:
    """One attempt's part of a run. `result` is called once, in the workflow's main asyncio task."""

    def __init__(self, workflow: Workflow, runtime: LedgerRuntime, context: Context, run_id: str) -> None:
        basic = basic_runtime_of(runtime)
        assert basic is not None
        self._workflow = workflow
        self._runtime = runtime
        self._basic = basic
        self._memory = context.memory
        self._past = Past.read(self._memory.entries)
        self._ledger = Ledger(basic, self._past, context)
        self._read = self._past.message
        self._classes = classes_of(workflow)
        self._answers = answers_of(workflow)
        self._run_id = run_id

    async def result(self, start: StartEvent) -> Any:
        """Run to the end; return what `await workflow.run()` does.

        Raises:
            EngineTimeout: the engine's own time for the run was up.
            WorkflowChanged: the workflow's code is another one than that of earlier attempts.
            Exception: what a step raised at last.
        """
        self._runtime.ledgers[self._run_id] = self._ledger
        try:
            handler = self._begin(start)
            ended = asyncio.ensure_future(handler.stop_event_result())
            try:
                await self._feed(handler, ended)
                stop = await ended
                if self._ledger.failure is not None:
                    # Of its last step: the engine knows nothing of it.
                    raise self._ledger.failure
            finally:
                await self._leave(handler, ended)
        except WorkflowTimeoutError as error:
            raise EngineTimeout(str(error)) from error
        finally:
            self._ledger.close()
            del self._runtime.ledgers[self._run_id]
        return stop.result if type(stop) is StopEvent else stop

    def _begin(self, start: StartEvent) -> WorkflowHandler:
        if not self._past.records:
            return self._workflow.run(start_event=start, run_id=self._run_id)
        try:
            context = self._past.restore(self._basic, self._workflow)
        except Exception as error:
            raise WorkflowChanged(
                f"the workflow's code does not fit what an earlier attempt has done: {type(error).__name__}: {error}",
                hint="let tasks end before their workflow's code changes, or serve the new one by another name",
            ) from error
        return self._workflow.run(ctx=context, run_id=self._run_id)

    async def _leave(self, handler: WorkflowHandler, ended: "asyncio.Future[StopEvent]") -> None:
        """See to it that nothing of the run is left; where it has not ended, its steps are cancelled."""
        # Before the steps unwind: what they write then, nobody shall see twice.
        self._ledger.close()
        if ended.done():
            return
        run = as_v2_runtime_compatibility_shim(handler._external_adapter)
        assert run is not None
        # Not `ended`: the engine's loop would be cancelled again in the middle of its own cleaning up.
        run.abort()
        await asyncio.wait({ended})
        if not ended.cancelled():
            # Looked at, or it would be logged as forgotten.
            ended.exception()

    async def _feed(self, handler: WorkflowHandler, ended: "asyncio.Future[StopEvent]") -> None:
        """Hand messages to the run until it has ended."""
        ledger = self._ledger
        reading: asyncio.Future[Message] | None = None
        try:
            while not ended.done():
                ledger.changed.clear()
                if ledger.is_resting and self._is_listening:
                    if reading is not None:
                        await _cancel(reading)
                    message = await self._message_while_resting(ended) if reading is None else _got(reading)
                    reading = None
                    if message is not None:
                        await self._send(handler, message)
                    continue
                if reading is None and self._is_listening:
                    # Not this task itself, which may be parked where it waits.
                    reading = asyncio.ensure_future(self._memory.message(self._read))
                changed = asyncio.ensure_future(ledger.changed.wait())
                try:
                    waited: list[asyncio.Future[Any]] = [ended, changed, *([] if reading is None else [reading])]
                    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await _cancel(changed)
                if reading is not None and reading.done():
                    message, reading = reading.result(), None
                    await self._send(handler, message)
        finally:
            if reading is not None:
                await _cancel(reading)

    @property
    def _is_listening(self) -> bool:
        return bool(self._answers or self._ledger.waits)

    async def _message_while_resting(self, ended: "asyncio.Future[StopEvent]") -> Message | None:
        """Wait for a message in the task's main asyncio task, where it may be parked; None: the run went on by itself.

        By a time that is up, its own or that of a step's wait, or by something that a step has left behind.
        """
        task = asyncio.current_task()
        assert task is not None
        is_over = False

        def interrupt(*_: object) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                task.cancel()

        self._ledger.on_work = interrupt
        ended.add_done_callback(interrupt)
        try:
            return await self._memory.message(self._read, self._ledger.left)
        except asyncio.CancelledError:
            # As `asyncio.timeout` tells its own cancellation from others.
            if is_over and task.uncancel() == 0:
                return None
            raise
        finally:
            is_over = True
            self._ledger.on_work = _ignore
            ended.remove_done_callback(interrupt)

    async def _send(self, handler: WorkflowHandler, message: Message) -> None:
        self._read = message.number
        if message.number in self._past.refused:
            return
        try:
            event = event_of(message, self._classes | self._ledger.awaited, self._answers | self._ledger.awaited_names)
        except InvalidInput as error:
            log.warning("a message is not for this workflow", message=message.number, reason=str(error))
            # Both or neither: a later attempt, which reads it again, tells of it if this one has not.
            await self._memory.refuse(message, str(error), pack_refusal(message.number))
            return
        self._ledger.expect(event, message.number)
        handler.ctx.send_event(event)


async def _cancel(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _got(reading: "asyncio.Future[Message]") -> Message | None:
    """Return what a reading that was cancelled has brought all the same."""
    return None if reading.cancelled() else reading.result()


def _ignore() -> None:
    pass
