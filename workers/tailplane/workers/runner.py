"""Runs authors' code: async on the workflows' loop, sync in threads. Lives on the workflows' side, not the platform's.

Nothing here touches Redis. The platform starts a run with `start`, which may be called from its thread, and holds the
future; what the author raises comes out of it as it is.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tailplane.protocol import codec
from tailplane.protocol.errors import TooLarge
from tailplane.workers.context import Context
from tailplane.workers.threads import in_thread
from tailplane.workers.workflow import Shape, Workflow


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: the packed result, or what was raised (CancelledError included)."""

    result: bytes
    error: BaseException | None = None


class Run:
    """A run under way.

    Args:
        on_end: called on the loop when the author's code has really ended, however long after `cancel`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        code: Coroutine[Any, Any, Outcome],
        name: str,
        on_end: Callable[[Outcome], None],
    ) -> None:
        self._loop = loop
        self._name = name
        self._on_end = on_end
        self._task: asyncio.Task[Outcome] | None = None
        self._is_cancelled = False
        # In the attempt's context: what it bound for the log, and its span, are the workflow's too.
        loop.call_soon_threadsafe(self._start, code, context=contextvars.copy_context())

    def cancel(self) -> None:
        """Cancel the author's coroutine where it next awaits; a thread can't be interrupted. Thread-safe.

        Once: code that clears up is not disturbed again.
        """
        if not self._is_cancelled:
            self._is_cancelled = True
            self._loop.call_soon_threadsafe(self._cancel)

    def _start(self, code: Coroutine[Any, Any, Outcome]) -> None:
        # The name is the one by which a blocked loop is reported.
        self._task = self._loop.create_task(code, name=self._name)
        self._task.add_done_callback(self._resolve)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _resolve(self, task: "asyncio.Task[Outcome]") -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._on_end(Outcome(b"", error) if error else task.result())


class Runner:
    """The workflows' side of a worker process.

    Args:
        loop: where async workflows run.
        threads: how many sync workflows may run at once.
        max_result_bytes: largest result, in bytes of msgpack.

    Attributes:
        pool: the threads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int, max_result_bytes: int) -> None:
        self.loop = loop
        self._max_result_bytes = max_result_bytes
        self.pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="workflow")

    def start(self, workflow: Workflow, context: Context, value: bytes, on_end: Callable[[Outcome], None]) -> Run:
        """Begin to run a workflow on a packed input; `on_end` is told, on the loop, what came of it. Thread-safe.

        Besides what the author raises, the outcome's error may be InvalidInput, Unserialisable or TooLarge (of the
        result).
        """
        name = f"{context.workflow} {context.task_id} {context.attempt}"
        return Run(self.loop, self._run(workflow, context, value), name, on_end)

    def close(self) -> None:
        """Wait for the threads of sync workflows to end."""
        self.pool.shutdown(cancel_futures=True)

    async def _run(self, workflow: Workflow, context: Context, value: bytes) -> Outcome:
        try:
            call = workflow.bind(context, codec.unpack(value))
            context.begin()
            match workflow.shape:
                case Shape.COROUTINE:
                    result = await call()
                case Shape.ASYNC_GENERATOR:
                    result = await _drain(call(), context)
                case Shape.GENERATOR:
                    result = await in_thread(self.pool, lambda: _drain_in_thread(call(), context))
                case Shape.FUNCTION:
                    result = await in_thread(self.pool, call)
            context.check_end()
            return Outcome(self._pack(result))
        except (SystemExit, KeyboardInterrupt) as error:
            # In a task these two would end the whole process' loop.
            return Outcome(b"", error)

    def _pack(self, result: object) -> bytes:
        value = codec.dump_model(result) if isinstance(result, BaseModel) else result
        # Packed as deeply nested as it will be in the event that tells of it; each level takes one byte at the front.
        packed = codec.pack([[value]])[2:]
        if len(packed) > self._max_result_bytes:
            raise TooLarge(f"the result has {len(packed)} bytes, {self._max_result_bytes} are allowed")
        return packed


async def _drain(generator: AsyncGenerator[Any], context: Context) -> object:
    # Closed here, also after an event that could not be written: its `finally` is part of the run.
    async with contextlib.aclosing(generator):
        async for item in generator:
            await context.emit(item)
    return None


def _drain_in_thread(generator: Generator[Any, Any, Any], context: Context) -> object:
    with contextlib.closing(generator):
        while True:
            try:
                item = next(generator)
            except StopIteration as end:
                return end.value
            context.emit_from_thread(item)
