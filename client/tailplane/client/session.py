"""A session: a named group of tasks that its opener can end together."""

import logging
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from tailplane.client.durations import Duration
from tailplane.client.link import Link
from tailplane.client.models import SessionInfo, parse
from tailplane.client.rewinds import OnRewind
from tailplane.client.schedules import put_off
from tailplane.client.session_state import SessionState
from tailplane.client.session_stream import SessionStream
from tailplane.client.stream import ResultStream
from tailplane.client.stream_token import StreamToken, issue
from tailplane.client.task import Task, submit, terms_body
from tailplane.client.transport import Patience, path
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import SessionNotFound
from tailplane.protocol.priorities import Priority
from tailplane.protocol.scopes import Action

logger = logging.getLogger("tailplane.client")


class Session:
    """An open session; `Client.start_session` makes it.

    Attributes:
        session_id: its id.
        metadata: what it was opened with.
        state: what its tasks share.
    """

    def __init__(self, link: Link, info: SessionInfo) -> None:
        """Hold the session that `info` tells of."""
        self.session_id = info.session_id
        self.metadata = dict(info.metadata)
        self.state = SessionState(link, info.session_id)
        self._link = link

    def __repr__(self) -> str:
        return f"Session({self.session_id!r})"

    async def run_workflow(
        self,
        name: str,
        input_data: object = None,
        *,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        priority: Priority | str | None = None,
        concurrency_key: str | None = None,
        concurrency_limit: int = 1,
    ) -> Task:
        """Start a run of the workflow `name` and return its task, without waiting for a worker.

        Args:
            name: a workflow that some worker has registered.
            input_data: a pydantic model, or anything that msgpack carries.
            metadata: labels of the task.
            idempotency_key: the same key and request within 24 hours give the same task, not another one.
            delay: how long to put its start off, as a timedelta or in seconds.
            run_at: when to start it; a time that has passed means now. Not beside `delay`.
            priority: `high`, `normal` or `low`: which tasks are claimed first; None: as the workflow says.
            concurrency_key: of the tasks with the same key, whichever their workflows, at most `concurrency_limit` run
                at once; the others wait, and hold up nothing else.
            concurrency_limit: the newest task's counts for all of the key.
        Raises:
            ValueError: `run_at` has no time zone.
            UnknownWorkflow, InvalidInput, InvalidRequest, TooLarge, Unserialisable, SessionClosed: it can't be started
                as asked.
            IdempotencyConflict: the key was used for another request.
            QueueFull, Unavailable, ConnectionLost: it could not be started within the options' `retry_for`.
        """
        where = path("sessions", self.session_id, "tasks")
        more = put_off(delay, run_at) | terms_body(priority, concurrency_key, concurrency_limit)
        return await submit(self._link, where, name, input_data, metadata, idempotency_key, more)

    def get_task_result_stream(
        self, task_id: str, *, start: Cursor | str = "start", on_rewind: OnRewind = "keep"
    ) -> ResultStream:
        """Return what the task's workflow writes, while it writes it.

        Yields what was written, as an instance of the pydantic model it was written as, where that is one of the
        client's event models. Lost connections are taken up again where they broke off.

        Args:
            task_id: any task's, also of another session.
            start: a cursor (the seq of the last event seen), `start`, `now`, or `-N` for the last N events.
            on_rewind: what becomes of events that another attempt supersedes: `keep`, `notice` or `drop`; see
                `ResultStream`.
        Raises:
            InvalidCursor: `start` is none of these.
            TaskFailed, TaskCancelled, TaskExpired: while iterating, after the last event, unless the task succeeded.
            EventMismatch: while iterating, in the place of an event that does not fit its model; see `ResultStream`.
            ConnectionLost: while iterating, when the reconnect policy gives up.
        """
        return ResultStream(self._link, task_id, start, on_rewind)

    async def send_event(
        self, task_id: str, event: object, *, type: str | None = None, idempotency_key: str | None = None
    ) -> int:
        """Send a message to a task, also of another session; see `Task.send_event`."""
        return await self.task(task_id).send_event(event, type=type, idempotency_key=idempotency_key)

    def events(self, start: str = "start") -> SessionStream:
        """Return what all tasks of the session say, while they say it; those that join it meanwhile come by themselves.

        Lost connections are taken up again where they broke off. It ends when the session is closed and its tasks have
        been seen to their ends: not inside of the session's own block, unless somebody closes it there.

        Args:
            start: `start`, `now`, or the `cursor` of such a stream.
        Raises:
            InvalidCursor: `start` is none of these.
            CursorPastEnd: while iterating: the store has lost tasks that the cursor has seen.
            EventMismatch: while iterating, in the place of an event that does not fit its model.
            ConnectionLost: while iterating, when the reconnect policy gives up.
        """
        return SessionStream(self._link, self.session_id, start)

    def task(self, task_id: str) -> Task:
        """Return a handle of a task by its id."""
        return Task(self._link, task_id)

    async def stream_token(
        self, actions: Collection[Action | str] = (Action.READ,), expires_in: Duration = 600.0
    ) -> StreamToken:
        """Return a credential for this session and its tasks, those that join it later, too; see `Task.stream_token`.

        Raises:
            Forbidden: the client's key lacks a scope.
            SessionNotFound: there is no such session any more.
        """
        return await issue(self._link, path("sessions", self.session_id, "tokens"), actions, expires_in)

    async def close(self, *, cancel: bool = False) -> SessionInfo:
        """Close the session: it takes no more tasks. Those it has run on, unless `cancel`."""
        return await self._close(cancel, retry_for=None)

    async def _close(self, cancel: bool, retry_for: timedelta | None) -> SessionInfo:
        return await close_session(self._link, self.session_id, cancel=cancel, retry_for=retry_for)

    async def _leave(self, cancel: bool) -> None:
        """Close it at the end of its block."""
        try:
            await self.close(cancel=cancel)
        except SessionNotFound:
            logger.debug("session %s was gone before it was closed", self.session_id)

    async def _leave_in_error(self, cancel: bool) -> None:
        """Close it while an exception passes, which must neither be replaced nor held up for long."""
        try:
            await self._close(cancel, self._link.transport.options.close_timeout)
        except Exception as error:
            logger.warning("session %s could not be closed: %s", self.session_id, error)


async def find_session(link: Link, session_id: str) -> Session:
    """Return a session that is there already."""
    answer = await link.transport.request("GET", path("sessions", session_id))
    return Session(link, parse(SessionInfo, answer.value))


async def close_session(
    link: Link, session_id: str, *, cancel: bool, retry_for: timedelta | None = None
) -> SessionInfo:
    """Close a session. `retry_for`: for how long it is tried; None: as the client's options say."""
    answer = await link.transport.request(
        "DELETE",
        path("sessions", session_id),
        params={"cancel": "true" if cancel else "false"},
        patience=None if retry_for is None else Patience(retry_for=retry_for),
    )
    return parse(SessionInfo, answer.value)


async def open_session(link: Link, metadata: Mapping[str, str] | None) -> Session:
    """Open a session."""
    body = {"metadata": dict(metadata)} if metadata else {}
    answer = await link.transport.request("POST", path("sessions"), body=body, key=uuid.uuid4().hex)
    return Session(link, parse(SessionInfo, answer.value))


@asynccontextmanager
async def opened_session(
    link: Link, metadata: Mapping[str, str] | None, *, cancel_on_exit: bool
) -> AsyncIterator[Session]:
    """Open a session and close it at the block's end, in whichever way the block is left."""
    session = await open_session(link, metadata)
    # Sheltered: a cancelled block would otherwise cancel its own closing, and leave the session open for good.
    try:
        yield session
    except BaseException:
        await link.owner.shelter(session._leave_in_error(cancel_on_exit))
        raise
    await link.owner.shelter(session._leave(cancel_on_exit))
