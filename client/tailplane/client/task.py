"""One task, as its callers hold it: follow it, wait for it, cancel it."""

import asyncio
import math
import secrets
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from tailplane.client.backoff import Backoff
from tailplane.client.durations import Duration, seconds
from tailplane.client.link import Link
from tailplane.client.models import DeliveredMessage, StepInfo, StepList, TaskStatus, parse
from tailplane.client.outcome import error_of_task
from tailplane.client.rewinds import OnRewind
from tailplane.client.snapshots import Snapshots
from tailplane.client.stream import EventStream, ResultStream
from tailplane.client.stream_token import StreamToken, issue
from tailplane.client.tracing import submitting
from tailplane.client.transport import Patience, path
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import ConnectionLost, ResultPending, Unavailable
from tailplane.protocol.scopes import Action

# For how long the result endpoint is asked to hold its answer back (at most 60, PROTOCOL.md 2): a connection that has
# died in silence is noticed so much later.
_LONGEST_HOLD_S = 20.0
# Between two looks at what has arrived, where only the end counts.
_SELDOM_S = 1.0


class Task:
    """A handle of one task; making one asks nobody.

    Attributes:
        task_id: its id.
        workflow: the workflow's name; None where the handle was made from an id alone.
        position: how many tasks of its workflow waited before it when it was queued, about; None as above.
    """

    def __init__(self, link: Link, task_id: str, workflow: str | None = None, position: int | None = None) -> None:
        """Hold the task `task_id`."""
        self.task_id = task_id
        self.workflow = workflow
        self.position = position
        self._link = link

    def __repr__(self) -> str:
        return f"Task({self.task_id!r}, workflow={self.workflow!r})"

    def events(self, start: Cursor | str = "start", *, include_platform: bool = True) -> EventStream:
        """Return the task's events as envelopes.

        Args:
            start: a cursor (the seq of the last event seen), `start`, `now`, or `-N` for the last N.
            include_platform: also what the platform says, to the terminal event. Without it the iteration raises
                TaskFailed, TaskCancelled or TaskExpired after the last event, unless the task succeeded.
        Raises:
            InvalidCursor: `start` is none of these.
        """
        return EventStream(self._link, self.task_id, start, include_platform=include_platform)

    def results(self, start: Cursor | str = "start", *, on_rewind: OnRewind = "keep") -> ResultStream:
        """Return what the workflow writes, while it writes it; see `Session.get_task_result_stream`."""
        return ResultStream(self._link, self.task_id, start, on_rewind)

    def snapshots(self, interval: Duration = 0.1, *, channel: str | None = None) -> Snapshots:
        """Return a view that yields all that the workflow has written so far, at most once per `interval`.

        Each is a list of data, and shows each thing once: after another attempt has begun it begins anew. It is
        yielded when it has changed. Ends, and raises, as `results`: StreamGap once, before what the stream still has.

        Args:
            interval: a timedelta or seconds; 0: whenever something arrives.
            channel: only what was written to it; None: everything.
        """
        return Snapshots(EventStream(self._link, self.task_id, "start", include_platform=True), interval, channel)

    async def collect(self, *, channel: str | None = None) -> list[Any]:
        """Wait for the task's end and return what the workflow has written, each thing once.

        Raises: as `result` without a timeout; EventMismatch; StreamGap where some of it is gone, as with `keep_last`.
        """
        return await self.snapshots(_SELDOM_S, channel=channel).last()

    async def text(self, *, channel: str | None = None) -> str:
        """Wait for the task's end and return the pieces of text (str) that the workflow has written, put together.

        Raises: as `collect`.
        """
        return "".join([piece for piece in await self.collect(channel=channel) if isinstance(piece, str)])

    async def result(self, timeout: Duration | None = None) -> Any:
        """Wait for the task's end and return the workflow's result.

        Args:
            timeout: how long to wait, as a timedelta or in seconds; None: to the end.
        Raises:
            TaskFailed, TaskCancelled, TaskExpired: it ended without success.
            ResultPending: it has not ended after `timeout`. It runs on.
            ConnectionLost, Unavailable: the control plane did not answer for the reconnect policy's `give_up_after`.
            TaskNotFound: no such task, or its retention has passed.
        """
        clock = asyncio.get_running_loop().time
        deadline = math.inf if timeout is None else clock() + seconds(timeout)
        backoff = Backoff(self._link.transport.options.reconnect.base, timedelta(seconds=1))
        while True:
            asked_at = clock()
            left = max(0.0, deadline - asked_at)
            task = await self._wait_for_result(left)
            if task.state.is_terminal:
                error = error_of_task(task)
                if error is not None:
                    raise error
                return task.result
            if clock() >= deadline:
                raise ResultPending(f"task {self.task_id} is {task.state} after {seconds(timeout or 0):g} s")
            if clock() - asked_at < 1.0:
                # Perhaps the answer was not held back, as by a control plane that drains: never ask in a tight loop.
                await asyncio.sleep(min(backoff.next_delay(), max(0.0, deadline - clock())))

    async def status(self) -> TaskStatus:
        """Return the task as it stands."""
        return await self._link.status(self.task_id)

    async def cancel(self, reason: str | None = None) -> TaskStatus:
        """Cancel the task, and return it with the state it ended in; one that had ended keeps its state."""
        body = {} if reason is None else {"reason": reason}
        answer = await self._link.transport.request("POST", path("tasks", self.task_id, "cancel"), body=body)
        return parse(TaskStatus, answer.value)

    async def send_event(self, event: object, *, type: str | None = None, idempotency_key: str | None = None) -> int:
        """Send a message to the task, and return its number in the task's inbox.

        The workflow gets it from `ctx.wait_for_event`, once, whether it waits already or not.

        Args:
            event: a pydantic model, or anything that msgpack carries.
            type: what it is called, which is what the workflow waits for; None: the name of the model's class. What is
                no model has no type then: it is for a workflow that waits for any message.
            idempotency_key: the same key and message are one message, however often it is sent.
        Raises:
            TaskEnded, InboxFull: the task takes no more messages.
            TaskNotFound: no such task, or its retention has passed.
            IdempotencyConflict: the key was used for another message.
            Unserialisable, Unavailable, ConnectionLost: it can't be sent, or not within the options' `retry_for`.
        """
        if type is None and isinstance(event, BaseModel):
            type = event.__class__.__name__
        answer = await self._link.transport.request(
            "POST",
            path("tasks", self.task_id, "events"),
            body={"type": type, "data": event},
            # Without the caller's key a fresh one: it makes repeating the request after a lost answer safe.
            key=idempotency_key or secrets.token_hex(16),
        )
        return parse(DeliveredMessage, answer.value).number

    async def steps(self) -> list[StepInfo]:
        """Return what the task has done durably, in the order in which it began: steps, waits and children."""
        answer = await self._link.transport.request("GET", path("tasks", self.task_id, "steps"))
        return parse(StepList, answer.value).steps

    async def stream_token(
        self, actions: Collection[Action | str] = (Action.READ,), expires_in: Duration = 600.0
    ) -> StreamToken:
        """Return a credential for this task alone, to be given to a browser; see docs/browsers.md.

        Args:
            actions: what its holder may do: `read`, `cancel`, `answer` (send messages). The client's API key has to
                have the scopes for it.
            expires_in: how long it is good: from 10 s to an hour, and not longer than the key.
        Raises:
            Forbidden: the client's key lacks a scope.
            TaskNotFound: no such task, or its retention has passed.
        """
        return await issue(self._link, path("tasks", self.task_id, "tokens"), actions, expires_in)

    async def _wait_for_result(self, left_s: float) -> TaskStatus:
        """Return the task when it has ended, or after `left_s` seconds, or after the longest hold."""
        patience = self._link.transport.options.reconnect.give_up_after
        is_last = patience is None or left_s < patience.total_seconds()
        if is_last and left_s < math.inf:
            patience = timedelta(seconds=left_s)
        hold_s = min(left_s, _LONGEST_HOLD_S)
        try:
            answer = await self._link.transport.request(
                "GET",
                path("tasks", self.task_id, "result"),
                params={"wait": f"{hold_s:.3f}"},
                patience=Patience(retry_for=patience, hold=timedelta(seconds=hold_s)),
            )
        except (ConnectionLost, Unavailable) as error:
            if not is_last:
                raise
            raise ResultPending(f"no answer about task {self.task_id} within the timeout") from error
        return parse(TaskStatus, answer.value)


async def submit(
    link: Link,
    where: str,
    name: str,
    input_data: object,
    metadata: Mapping[str, str] | None,
    idempotency_key: str | None,
    more: Mapping[str, object],
) -> Task:
    """Ask for a run of the workflow `name` at the endpoint `where`, and return the task's handle.

    Args:
        more: what the body says besides, see `put_off` and `terms_body`.
    """
    body: dict[str, object] = {"workflow": name, "input": input_data, **more}
    if metadata:
        body["metadata"] = dict(metadata)
    # Without the caller's key a fresh one: it makes repeating the request after a lost answer safe.
    key = idempotency_key or secrets.token_hex(16)
    with submitting(name, link.transport.url) as note_task:
        answer = await link.transport.request("POST", where, body=body, key=key)
        task = task_of(link, parse(TaskStatus, answer.value))
        note_task(task.task_id)
    return task


def terms_body(priority: str | None, concurrency_key: str | None, concurrency_limit: int) -> dict[str, object]:
    """Return what a submit says of when the task may run; nothing that a control plane would assume by itself."""
    body: dict[str, object] = {} if priority is None else {"priority": str(priority)}
    if concurrency_key is not None:
        body |= {"concurrency_key": concurrency_key, "concurrency_limit": concurrency_limit}
    elif concurrency_limit != 1:
        # For the control plane to refuse: it would limit nothing.
        body |= {"concurrency_limit": concurrency_limit}
    return body


def task_of(link: Link, status: TaskStatus) -> Task:
    """Return the handle of a task that the control plane told of."""
    return Task(link, status.task_id, status.workflow, status.position)
