"""The client: where an application meets Tailplane. It wires the parts of this package together and closes them.

It speaks HTTP to a control plane, never Redis. One client serves any number of tasks and streams on one asyncio event
loop. It connects when it is first used.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from pydantic import BaseModel

from tailplane.client import keys
from tailplane.client.credentials import Credentials, CredentialSource
from tailplane.client.durations import Duration
from tailplane.client.event_models import EventModels
from tailplane.client.keys import ApiKeyInfo, NewApiKey, Whoami
from tailplane.client.link import Link
from tailplane.client.models import (
    FleetInfo,
    LimitsInfo,
    SessionInfo,
    TaskStatus,
    WorkerInfo,
    WorkerList,
    WorkflowInfo,
    WorkflowList,
    parse,
)
from tailplane.client.options import ClientOptions, control_plane_url, credential
from tailplane.client.pages import DeadLetterPages, KeyPages, SchedulePages, TaskPages
from tailplane.client.rewinds import OnRewind
from tailplane.client.schedules import Schedule, ScheduleInfo, put_off
from tailplane.client.session import Session, close_session, find_session, open_session, opened_session
from tailplane.client.stream import ResultStream
from tailplane.client.task import Task, submit, task_of, terms_body
from tailplane.client.transport import Transport, path
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.priorities import Priority
from tailplane.protocol.scopes import Scope
from tailplane.protocol.states import State


class Client:
    """A client of one control plane, or of several behind one address.

    Use it as `async with Client() as client:`, or without and call `aclose` when done.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | CredentialSource | None = None,
        event_models: Sequence[type[BaseModel]] = (),
        options: ClientOptions | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: the control plane's; None: the environment's TAILPLANE_URL, else http://127.0.0.1:8420.
            api_key: what goes with every request: an API key, a stream token, or a function, also a coroutine function,
                that returns one: it is asked at the first request, shortly before a stream token expires, and when the
                control plane refuses what it returned before. None: the environment's TAILPLANE_API_KEY, else nothing;
                "": nothing, whatever the environment says.
            event_models: pydantic models that events are turned back into, told by the names of their classes.
            options: timeouts, reconnecting, buffers.
            headers: sent with every request; an Authorization of yours goes before `api_key`.
        Raises:
            ValueError: `url` is not of http or https, `api_key` is none, or two event models have the same name.
        """
        options, given = options or ClientOptions(), {name.lower(): value for name, value in (headers or {}).items()}
        source = api_key if callable(api_key) and "authorization" not in given else None
        signed = given if callable(api_key) else credential(api_key) | given
        credentials = Credentials(source, options.answer_timeout)
        transport = Transport(control_plane_url(url), options, signed, credentials)
        self._link = Link(transport, EventModels(event_models))

    @property
    def url(self) -> str:
        """The control plane's address."""
        return self._link.transport.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop all streams, and close all connections. Who still iterates over a stream gets ConnectionLost."""
        await self._link.owner.aclose()
        await self._link.transport.aclose()

    def start_session(
        self, metadata: Mapping[str, str] | None = None, *, cancel_on_exit: bool = False
    ) -> AbstractAsyncContextManager[Session]:
        """Open a session for the length of an `async with` block.

        Args:
            metadata: labels of the session.
            cancel_on_exit: cancel what has not ended when the block is left; otherwise its tasks run on.
        """
        return opened_session(self._link, metadata, cancel_on_exit=cancel_on_exit)

    async def open_session(self, metadata: Mapping[str, str] | None = None) -> Session:
        """Open a session that outlives the program: nothing closes it by itself, `Session.close` does.

        Args:
            metadata: labels of the session.
        """
        return await open_session(self._link, metadata)

    async def close_session(self, session_id: str, *, cancel: bool = False) -> SessionInfo:
        """Close a session by its id, as `Session.close` does.

        Raises:
            SessionNotFound: there is none.
        """
        return await close_session(self._link, session_id, cancel=cancel)

    async def session(self, session_id: str) -> Session:
        """Return a session that is there already. Nothing closes it by itself.

        Raises:
            SessionNotFound: there is none.
        """
        return await find_session(self._link, session_id)

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
        """Start a run of the workflow `name` that belongs to no session; see `Session.run_workflow`."""
        more = put_off(delay, run_at) | terms_body(priority, concurrency_key, concurrency_limit)
        return await submit(self._link, path("tasks"), name, input_data, metadata, idempotency_key, more)

    def get_task_result_stream(
        self, task_id: str, *, start: Cursor | str = "start", on_rewind: OnRewind = "keep"
    ) -> ResultStream:
        """Return what the task's workflow writes, while it writes it; see `Session.get_task_result_stream`."""
        return ResultStream(self._link, task_id, start, on_rewind)

    async def send_event(
        self, task_id: str, event: object, *, type: str | None = None, idempotency_key: str | None = None
    ) -> int:
        """Send a message to a task; see `Task.send_event`."""
        return await self.task(task_id).send_event(event, type=type, idempotency_key=idempotency_key)

    def task(self, task_id: str) -> Task:
        """Return a handle of a task by its id; nobody is asked whether there is one."""
        return Task(self._link, task_id)

    def tasks(
        self,
        *,
        state: State | str | None = None,
        workflow: str | None = None,
        session_id: str | None = None,
        schedule: str | None = None,
    ) -> TaskPages:
        """Return the tasks that fit all that is given, newest first, without their results and errors."""
        query = {"state": state and str(state), "workflow": workflow, "session_id": session_id, "schedule": schedule}
        return TaskPages(self._link, {name: value for name, value in query.items() if value})

    def dead_letters(self, *, workflow: str | None = None) -> DeadLetterPages:
        """Return the tasks that failed and were neither requeued nor dropped since, newest first."""
        return DeadLetterPages(self._link, {"workflow": workflow} if workflow else {})

    async def requeue(self, task_id: str) -> Task:
        """Run a failed task again, and return the new task, which belongs to no session.

        It has the workflow, input and metadata of the failed one, which is no dead letter any more. Called again, it
        returns the same new task.

        Raises:
            DeadLetterNotFound: the task has not failed, or was dropped.
            TaskNotFound: no such task, or its retention has passed.
            UnknownWorkflow, InvalidInput: it can't be run any more as it was. It stays a dead letter.
            QueueFull, Unavailable, ConnectionLost: it could not be started within the options' `retry_for`.
        """
        answer = await self._link.transport.request("POST", path("dead-letters", task_id, "requeue"))
        return task_of(self._link, parse(TaskStatus, answer.value))

    async def drop_dead_letter(self, task_id: str) -> None:
        """Take a failed task off the dead letters for good. Its record and its stream stay readable as long as before.

        Raises:
            DeadLetterNotFound: the task has not failed, or was requeued.
            TaskNotFound: no such task, or its retention has passed.
        """
        await self._link.transport.request("DELETE", path("dead-letters", task_id))

    async def revoke_token(self, token_id: str) -> None:
        """Let a stream token be good for nothing from now on; what it has open ends within two seconds.

        Args:
            token_id: as `StreamToken.token_id` says it; not the token itself.
        Raises:
            Forbidden: it was issued for another API key, and this one is no admin's.
            KeyNotFound: it was issued for a key that the tenant does not have.
        """
        await self._link.transport.request("DELETE", path("tokens", token_id))

    async def put_schedule(self, name: str, schedule: Schedule) -> ScheduleInfo:
        """Create a schedule, or replace the one of that name; one that says the same already stays as it is.

        What was fired before is not fired again by what replaces it, and one that is paused stays so.

        Raises:
            ValueError: a time of it has no time zone.
            UnknownWorkflow, InvalidInput, TooLarge, Unserialisable: it could not be run.
            InvalidRequest: it says no time, more than one or none that lies ahead, or its cron or time zone is none.
            Unavailable, ConnectionLost: it could not be put within the options' `retry_for`.
        """
        answer = await self._link.transport.request("PUT", path("schedules", name), body=schedule.body())
        return parse(ScheduleInfo, answer.value)

    def schedules(self) -> SchedulePages:
        """Return the schedules by name, without their inputs."""
        return SchedulePages(self._link, {})

    async def schedule(self, name: str) -> ScheduleInfo:
        """Return a schedule as it stands.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        return parse(ScheduleInfo, (await self._link.transport.request("GET", path("schedules", name))).value)

    async def delete_schedule(self, name: str) -> None:
        """Remove a schedule; the tasks that it has fired go on.

        Raises:
            ScheduleNotFound: there is none of that name; also where a lost answer was asked for again.
        """
        await self._link.transport.request("DELETE", path("schedules", name))

    async def pause_schedule(self, name: str) -> ScheduleInfo:
        """Let a schedule fire nothing until it is resumed: due times of meanwhile are neither fired nor missed.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        answer = await self._link.transport.request("POST", path("schedules", name, "pause"))
        return parse(ScheduleInfo, answer.value)

    async def resume_schedule(self, name: str) -> ScheduleInfo:
        """Let a paused schedule go on, with its first due time from now on.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        answer = await self._link.transport.request("POST", path("schedules", name, "resume"))
        return parse(ScheduleInfo, answer.value)

    async def trigger_schedule(self, name: str, *, idempotency_key: str | None = None) -> Task:
        """Run now what a schedule runs, also of a paused one and whatever its `overlap`; its due times stay.

        Raises:
            ScheduleNotFound: there is none of that name.
            What `run_workflow` raises.
        """
        key = idempotency_key or secrets.token_hex(16)
        answer = await self._link.transport.request("POST", path("schedules", name, "trigger"), key=key)
        return task_of(self._link, parse(TaskStatus, answer.value))

    async def create_key(
        self,
        name: str,
        scopes: Collection[Scope | str],
        *,
        expires_in: Duration | None = None,
        submits_per_second: float | None = None,
        max_readers: int | None = None,
    ) -> NewApiKey:
        """Create an API key of the tenant whose admin signs; `key` of what is returned can't be told again.

        Args:
            name: what people tell it by, 1-100 characters.
            scopes: of submit, read, cancel and admin, which is all of them.
            expires_in: when it ends by itself; None: never.
            submits_per_second, max_readers: its own limits, beside its tenant's; None: none.
        Raises:
            TooManyKeys: the tenant has as many good ones as it may.
            Unauthenticated, Forbidden: no admin's key signs.
        """
        return await keys.create(self._link, name, scopes, expires_in, submits_per_second, max_readers)

    def keys(self) -> KeyPages:
        """Return the API keys of the tenant whose admin signs, the oldest first; those that have ended, too."""
        return KeyPages(self._link, {})

    async def key(self, key_id: str) -> ApiKeyInfo:
        """Return an API key of the tenant, without its secret.

        Raises:
            KeyNotFound: the tenant has no such key.
        """
        return parse(ApiKeyInfo, (await self._link.transport.request("GET", path("keys", key_id))).value)

    async def rotate_key(self, key_id: str, *, grace: Duration = timedelta(hours=24)) -> NewApiKey:
        """Give an API key a new secret, which can't be told again; stream tokens that it has signed stay good.

        Args:
            grace: how long the secrets before are good, too, at most a week; 0: not at all, as for one that leaked.
        Raises:
            KeyNotFound: the tenant has no such key.
            KeyEnded: it was revoked, or has expired.
        """
        return await keys.rotate(self._link, key_id, grace)

    async def revoke_key(self, key_id: str) -> None:
        """Let an API key be good for nothing, within two seconds and for good; again changes nothing.

        Raises:
            KeyNotFound: the tenant has no such key.
            LastAdmin: nobody could manage the tenant's keys any more.
        """
        await self._link.transport.request("DELETE", path("keys", key_id))

    async def whoami(self) -> Whoami:
        """Return whom the control plane takes this client for, and what that one may do."""
        return parse(Whoami, (await self._link.transport.request("GET", path("whoami"))).value)

    async def workflows(self) -> list[WorkflowInfo]:
        """Return the workflows that workers have registered."""
        answer = await self._link.transport.request("GET", path("workflows"))
        return parse(WorkflowList, answer.value).workflows

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers that hold a lease."""
        answer = await self._link.transport.request("GET", path("workers"))
        return parse(WorkerList, answer.value).workers

    async def fleet(self) -> FleetInfo:
        """Return what waits for each workflow, which workers there are, and how many dead letters."""
        answer = await self._link.transport.request("GET", path("fleet"))
        return parse(FleetInfo, answer.value)

    async def limits(self) -> LimitsInfo:
        """Return what the tenant, and the API key, of this client may take, and what they take now."""
        answer = await self._link.transport.request("GET", path("limits"))
        return parse(LimitsInfo, answer.value)
