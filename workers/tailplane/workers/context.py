"""What a workflow is given as its first argument: its way to say something while it runs, and to survive."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from tailplane.workers.branches import CURRENT
from tailplane.workers.durable import Durable, EngineMemory
from tailplane.workers.emitter import Emitter, is_replayed
from tailplane.workers.gathering import gather
from tailplane.workers.progress import pack_progress
from tailplane.workers.session_state import SessionState
from tailplane.workers.step_function import OF_THIS_ATTEMPT, Step
from tailplane.workers.steps import StepOptions
from tailplane.workers.task_state import TaskState
from tailplane.workers.threads import require_a_loop, runs_a_loop

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """One attempt of a task, as its workflow sees it.

    Attributes:
        task_id: the task's id.
        attempt: which attempt this is, from 1.
        workflow: the workflow's name.
        session_id: the session's id, or None.
        metadata: what the submitter attached.
        due_at: when the task was to start, in UTC: the due time of the schedule that fired it, whenever it runs; None:
            at once.
    """

    task_id: str
    attempt: int
    workflow: str
    session_id: str | None
    metadata: Mapping[str, str]
    _emitter: Emitter
    # None: it runs without a worker, as benchmarks of it do.
    _durable: Durable | None = None
    _blocks: bool = False
    due_at: datetime | None = None
    _session_state: SessionState | None = None

    def write_event_to_stream(self, data: object, *, channel: str | None = None) -> None:
        """Append an event to the task's stream. Not awaited; works from any thread; never blocks on I/O.

        Args:
            data: str, numbers, bytes, dict, list, None, aware datetimes, or a pydantic model.
            channel: a label of the author's, such as "stdout", that readers can tell events apart by.
        Raises:
            Unserialisable: `data` holds something else; nothing was written.
            TooLarge: the event is larger than the deployment allows.
            BufferFull: the workflow writes faster than Redis takes it; `emit` would wait instead. A workflow with
                `on_full="block"` waits here too, where it runs in a thread.
            TaskLost: this attempt is over (cancelled, timed out, taken over): stop.
        """
        if self._blocks and not self._emitter.room.is_there and not runs_a_loop():
            self._emitter.room.block()
        self._emitter.write(data, channel, CURRENT.get())

    async def emit(self, data: object, *, channel: str | None = None) -> None:
        """Append an event to the task's stream, after waiting for room in the buffer.

        Raises: as `write_event_to_stream`, but BufferFull only for what other threads wrote meanwhile.
        """
        if not self._emitter.room.is_there:
            await self._emitter.room.wait()
        self._emitter.write(data, channel, CURRENT.get())

    def emit_from_thread(self, data: object, *, channel: str | None = None) -> None:
        """Append an event from a thread that runs no event loop, after waiting for room in the buffer."""
        if not self._emitter.room.is_there:
            self._emitter.room.block()
        self._emitter.write(data, channel, CURRENT.get())

    @overload
    def step(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        name: str | None = None,
        retries: int | None = None,
        retry_delay: timedelta | float | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        name: str | None = None,
        retries: int | None = None,
        retry_delay: timedelta | float | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, T]: ...

    def step(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        retries: int | None = None,
        retry_delay: timedelta | float | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Run `function(*args, **kwargs)` once, however many attempts the task takes, and return what it returned.

        The result is kept together with the last events that the step wrote: a later attempt gets it, and neither runs
        the step nor writes its events again. What the function returns comes back as it was kept: by its return
        annotation where it has one, else as msgpack has it. A function that is not async runs in a thread.

        Args:
            name: what the step is called; default: as its function. It must not change under a running task, and
                neither must the order of a workflow's steps. An argument of the function's that has one of these names
                goes by its position.
            retries, retry_delay, retry_on: see `StepOptions`; default: as `@step` has them, else none. A try takes back
                what the one before wrote.
        Raises:
            WorkflowChanged: an earlier attempt of the task has done something else here.
            Unserialisable, TooLarge: the result can't be kept.
            Exception: what the function raises, after its last try. If the workflow goes on to another step, a later
                attempt gets it from here again, without running the step.
        """
        require_a_loop("ctx.step")
        options, code = StepOptions(), function
        if isinstance(function, Step):
            code, options = function.function, function.options
        given: dict[str, Any] = {"name": name, "retries": retries, "retry_delay": retry_delay, "retry_on": retry_on}
        options = replace(options, **{option: value for option, value in given.items() if value is not None})
        return self._made_durable.steps.run(options, code, args, kwargs)

    def gather(self, *pieces: Awaitable[Any], return_exceptions: bool = False) -> Coroutine[Any, Any, list[Any]]:
        """Run pieces of the workflow at once and return their results in order, as `asyncio.gather` does.

        Steps in them are told apart in every attempt, whatever order they run in. The first piece that raises cancels
        the others.
        """
        require_a_loop("ctx.gather")
        return gather(self._made_durable.journal, pieces, return_exceptions=return_exceptions)

    @overload
    def wait_for_event(
        self, wanted: type[M], *, timeout: timedelta | float | None = None
    ) -> Coroutine[Any, Any, M]: ...
    @overload
    def wait_for_event(
        self, wanted: str | None = None, *, timeout: timedelta | float | None = None
    ) -> Coroutine[Any, Any, Any]: ...

    def wait_for_event(
        self, wanted: type[BaseModel] | str | None = None, *, timeout: timedelta | float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Wait for a message that somebody sends to the task (`session.send_event`), and return what was sent.

        It may have come before: each message is got once, in the order in which they came. A wait that lasts gives the
        worker's slot back: the workflow is begun again when the message is there, with all that its steps returned.

        Args:
            wanted: a pydantic model, by whose class's name the message is told and which checks it; or what its sender
                calls it; None: any message.
            timeout: as a timedelta or in seconds; None: as long as it takes. One of asyncio's around the wait ends with
                the attempt: it does not wake a task that is parked meanwhile.
        Raises:
            TimeoutError: none came in time; a later attempt is told the same, even if one has come since.
            WorkflowChanged: an earlier attempt of the task has done something else here.
        """
        require_a_loop("ctx.wait_for_event")
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        return self._made_durable.waits.wait_for(wanted, seconds)

    def run_child(
        self, workflow: str, input_data: object = None, *, merge: bool | str = False
    ) -> Coroutine[Any, Any, Any]:
        """Run another workflow as a task of its own, on any worker, and return its result.

        It is started once, however many attempts this task takes, and belongs to the same session. If this task ends
        before it, it is cancelled. While this code does nothing but wait for it, the worker's slot may be given back.

        Args:
            workflow: its name, as registered by some worker.
            input_data: a pydantic model, or anything that msgpack carries.
            merge: show what it writes in this task's stream, too, while it writes it, on a channel of its name, or of
                this one. Who shows it keeps the slot, and its place under `max_running`, for as long: with all slots
                taken by tasks that do so, none is left for their children.
        Raises:
            TaskFailed, TaskCancelled, TaskExpired: it ended without success. If the workflow goes on to something else,
                a later attempt gets the same from here; if the attempt fails with it, the next one starts another.
            UnknownWorkflow: no worker has registered it.
            WorkflowChanged: an earlier attempt of this task has done something else here.
        """
        require_a_loop("ctx.run_child")
        return self._made_durable.children.run(workflow, input_data, merge)

    @property
    def state(self) -> TaskState:
        """The task's own state, which survives its attempts."""
        return self._made_durable.state

    @property
    def memory(self) -> EngineMemory:
        """The journal of an engine that runs the workflow: for those who bring one to Tailplane."""
        return self._made_durable.memory

    def begin(self) -> None:
        """Note that the workflow's body runs in this asyncio task. For the runner."""
        if self._durable is not None:
            self._durable.journal.main.owner = asyncio.current_task()
            OF_THIS_ATTEMPT.set(self._durable.steps)

    def check_end(self) -> None:
        """Make sure that the workflow may end here. For the runner.

        Raises:
            WorkflowChanged: it does not do what it did in an earlier attempt.
        """
        if self._durable is not None:
            self._durable.journal.check_end()

    @property
    def _made_durable(self) -> Durable:
        if self._durable is None:
            raise RuntimeError("only a worker's context can do this")
        return self._durable

    def progress(self, done: float, total: float | None = None, text: str | None = None) -> None:
        """Say how far the task is. Not awaited; works from any thread; never blocks on I/O, and needs no room.

        Only the latest counts: what was said since the last events were sent is replaced, so that it may be said in
        every turn of a loop. Readers see it as an event of the platform, `task.progress`; a next attempt begins anew.

        Args:
            done: how much is done.
            total: how much there is in all; None: not known.
            text: what is being done, in a few words; cut at 500 characters.
        Raises:
            ValueError, TypeError: `done` or `total` is no finite number.
            TaskLost: this attempt is over: stop.
        """
        packed, branch = pack_progress(done, total, text), CURRENT.get()
        # What stands in the stream already, from an earlier attempt, is not said again.
        if not is_replayed(branch, self._emitter):
            self._emitter.replace_latest(packed, branch)

    @property
    def session_state(self) -> SessionState:
        """What the tasks of this one's session share: small values under keys, each with a version.

        What is set stays set: neither another attempt nor a rewind takes it back.
        """
        if self._session_state is None:
            raise RuntimeError("this context belongs to no worker, and so it has no session's state")
        return self._session_state
