"""Children: tasks that a workflow starts and waits for. On the workflows' side; `family` does what needs Redis."""

import asyncio
from collections.abc import Callable
from typing import Any

from tailplane.broker import TaskRecord, TaskRef
from tailplane.broker.deliveries import CHILD_ENDED
from tailplane.broker.memory import Message
from tailplane.protocol import codec
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TaskCancelled, TaskError, TaskExpired, TaskFailed
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import TaskId, new_task_id
from tailplane.protocol.ranges import Range
from tailplane.protocol.states import State
from tailplane.workers.arrivals import Arrivals
from tailplane.workers.bridge import Bridge
from tailplane.workers.emitter import Emitter
from tailplane.workers.family import Family
from tailplane.workers.journal import Call, Journal
from tailplane.workers.merging import Merging
from tailplane.workers.waits import Waits

# Seconds between two looks at a child that has not ended, though it was said to.
_LOOK_EVERY = 0.5


class Children:
    """The children of one attempt's task."""

    def __init__(
        self, journal: Journal, arrivals: Arrivals, waits: Waits, emitter: Emitter, family: Family, bridge: Bridge
    ) -> None:
        self._journal = journal
        self._arrivals = arrivals
        self._waits = waits
        self._emitter = emitter
        self._family = family
        self._bridge = bridge
        # Those that this attempt knows to be there.
        self._there: set[TaskId] = set()

    @property
    def awaited(self) -> list[TaskId]:
        """The children that are there, and have not ended as far as this attempt knows. Thread-safe."""
        # One that is to be started yet has no record, as one that has ended long ago.
        return [TaskId(child) for child in self._journal.open_children if child in self._there]

    async def run(self, workflow: str, value: object, merge: bool | str) -> Any:
        """Return what a workflow returned that runs as a task of its own, on any worker.

        Raises:
            TaskFailed, TaskCancelled, TaskExpired: it ended without success.
            UnknownWorkflow: no worker has registered it.
            WorkflowChanged: an earlier attempt has done something else here.
        """
        packed = codec.pack(value)
        # Drawn before it is recorded, and recorded before there is such a task: then each attempt means the same one.
        call = self._journal.call("child", workflow, durably=True, child=new_task_id())
        if call.record.has_finished:
            return codec.unpack(call.record.value or b"\xc0")
        if failure := self._journal.failure_of(call):
            raise _error(TaskId(call.record.child or ""), failure)
        if call.record.error is not None:
            # It failed, and so did the attempt: this one tries it anew.
            self._journal.restart(call, child=new_task_id())
        if call.started is not None:
            await call.started
        child = TaskId(call.record.child or "")
        if not self._arrivals.has_come(_end_of(child)):
            # Of one that has ended the record may be gone by now: it would be taken for one that was never started.
            await self._bridge.call(lambda: self._family.start(child, workflow, packed))
        self._there.add(child)
        missing = 0
        if merge:
            missing = await self._merge(call, child, merge if isinstance(merge, str) else workflow)
        else:
            await self._wait(call, child)
        return await self._finish(call, child, missing)

    async def _finish(self, call: Call, child: TaskId, missing: int) -> Any:
        found = await self._bridge.call(lambda: self._family.outcome(child))
        while found is not None and not found.state.is_terminal:
            # A failover has lost its end: it ends again, and of that nobody is told.
            await asyncio.sleep(_LOOK_EVERY)
            found = await self._bridge.call(lambda: self._family.outcome(child))
        said: dict[str, Any] = {"task_id": child, **({"missing": missing} if missing else {})}
        if found is None or found.state is not State.SUCCEEDED:
            failure = _failure(child, found)
            self._journal.note_failure(call, failure, said)
            raise _error(child, failure)
        value = found.result or b"\xc0"
        await self._journal.finish(call, PlatformType.STEP_FINISHED, said, value=value)
        return codec.unpack(value)

    async def _wait(self, call: Call, child: TaskId) -> None:
        with self._waits.waiting(call.branch, None):
            await self._arrivals.take(_end_of(child), lambda: None)

    async def _merge(self, call: Call, child: TaskId, label: str) -> int:
        """Show a child to its end; return how many of its events could not be shown."""
        platform, tenant = self._family.platform, self._family.begun.record.tenant

        def note(seq: Cursor) -> None:
            call.inner.note(seq)

        def take_back(runs: list[Range]) -> None:
            self._journal.take_back(call, runs, "child_rewound")

        merging = Merging(platform.broker.log, platform.bells, self._emitter, label, note, take_back)
        try:
            return await self._bridge.call(lambda: merging.run(TaskRef(child, tenant)))
        except asyncio.CancelledError:
            # It is shown again, unless it was a part of something that has failed.
            call.branch.below.append(call.inner)
            raise


def _end_of(child: TaskId) -> Callable[[Message], bool]:
    return lambda message: message.type == CHILD_ENDED and message.data == {"task_id": child}


def _failure(child: TaskId, found: TaskRecord | None) -> dict[str, Any]:
    if found is None:
        return {"code": "task_gone", "type": "", "message": f"task {child} is no longer there", "state": "failed"}
    error = found.error or {"code": found.state.value, "type": "", "message": f"it was {found.state}"}
    return {**error, "state": found.state.value}


def _error(child: TaskId, failure: dict[str, Any]) -> TaskError:
    match failure.get("state"):
        case State.CANCELLED:
            return TaskCancelled(f"task {child} was cancelled", task_id=child)
        case State.EXPIRED:
            return TaskExpired(f"task {child} expired before it started", task_id=child)
        case _:
            return TaskFailed(
                task_id=child,
                error_type=failure.get("type", ""),
                message=failure.get("message", ""),
                remote_traceback=failure.get("traceback", ""),
                error_code=failure.get("code", "workflow_error"),
            )
