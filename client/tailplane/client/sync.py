"""The client for code without asyncio: the same calls, blocking.

Nothing is implemented here a second time: each call is handed to the method of the same name of Client, Session or
Task, which runs on the event loop of a thread of its own. So it works where a loop already runs, as in notebooks.
Signatures are those of the methods, without `await`; iterators are plain ones. Objects may be used from any thread.
"""

import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from pydantic import BaseModel

from tailplane.client.client import Client
from tailplane.client.coalesce import Batched
from tailplane.client.credentials import CredentialSource
from tailplane.client.loop_thread import LoopThread
from tailplane.client.options import ClientOptions
from tailplane.client.session import Session
from tailplane.client.session_state import SessionState
from tailplane.client.sync_stream import SyncSessionStream, SyncStream, SyncTaskStream
from tailplane.client.task import Task
from tailplane.protocol.events import Event

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")
W = TypeVar("W")
P = ParamSpec("P")


class Blocking(Generic[A]):
    """A blocking face of an asynchronous object."""

    def __init__(self, inner: A, thread: LoopThread) -> None:
        """Be the face of `inner`, which lives on the thread's loop."""
        self._inner = inner
        self._thread = thread

    def __repr__(self) -> str:
        return f"Sync{self._inner!r}"


async def _awaited(value: Awaitable[R]) -> R:
    return await value


def _call(method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Blocking[A], P], R]:
    """Return the blocking form of a coroutine method."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._thread.run(method(self._inner, *args, **kwargs))

    return call


def _call_for(
    face: Callable[[R, LoopThread], W], method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]]
) -> Callable[Concatenate[Blocking[A], P], W]:
    """Return the blocking form of a coroutine method whose result gets a face of its own."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> W:
        return face(self._thread.run(method(self._inner, *args, **kwargs)), self._thread)

    return call


def _face_of(
    face: Callable[[R, LoopThread], W], method: Callable[Concatenate[A, P], R]
) -> Callable[Concatenate[Blocking[A], P], W]:
    """Return a method that blocks as little as the original, with a face for its result."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> W:
        return face(method(self._inner, *args, **kwargs), self._thread)

    return call


def _stream_of(method: Callable[Concatenate[A, P], Batched[T]]) -> Callable[Concatenate[Blocking[A], P], SyncStream[T]]:
    """Return the blocking form of a method that gives a list in pages, or a view."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> SyncStream[T]:
        return SyncStream(method(self._inner, *args, **kwargs), self._thread)

    return call


def _block_of(
    face: Callable[[R, LoopThread], W], method: Callable[Concatenate[A, P], AbstractAsyncContextManager[R]]
) -> Callable[Concatenate[Blocking[A], P], AbstractContextManager[W]]:
    """Return the blocking form of a method that gives an asynchronous context manager."""

    @functools.wraps(method)
    @contextmanager
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[W]:
        block = method(self._inner, *args, **kwargs)
        inner = self._thread.run(_awaited(block.__aenter__()))
        try:
            yield face(inner, self._thread)
        except BaseException as error:
            if not self._thread.run(_awaited(block.__aexit__(type(error), error, error.__traceback__))):
                raise
        else:
            self._thread.run(_awaited(block.__aexit__(None, None, None)))

    return call


class SyncTask(Blocking[Task]):
    """Task, blocking."""

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._inner.task_id

    @property
    def workflow(self) -> str | None:
        """The workflow's name; None where the handle was made from an id alone."""
        return self._inner.workflow

    @property
    def position(self) -> int | None:
        """How many tasks of its workflow waited before it when it was queued; see `Task.position`."""
        return self._inner.position

    events = _face_of(SyncTaskStream[Event], Task.events)
    results = _face_of(SyncTaskStream[Any], Task.results)
    snapshots = _stream_of(Task.snapshots)
    collect = _call(Task.collect)
    text = _call(Task.text)
    result = _call(Task.result)
    status = _call(Task.status)
    cancel = _call(Task.cancel)
    send_event = _call(Task.send_event)
    steps = _call(Task.steps)
    stream_token = _call(Task.stream_token)


class SyncSessionState(Blocking[SessionState]):
    """SessionState, blocking."""

    all = _call(SessionState.all)
    get = _call(SessionState.get)
    set = _call(SessionState.set)
    update = _call(SessionState.update)


class SyncSession(Blocking[Session]):
    """Session, blocking."""

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._inner.session_id

    @property
    def metadata(self) -> dict[str, str]:
        """What the session was opened with."""
        return self._inner.metadata

    @property
    def state(self) -> SyncSessionState:
        """What its tasks share."""
        return SyncSessionState(self._inner.state, self._thread)

    run_workflow = _call_for(SyncTask, Session.run_workflow)
    get_task_result_stream = _face_of(SyncTaskStream[Any], Session.get_task_result_stream)
    send_event = _call(Session.send_event)
    events = _face_of(SyncSessionStream, Session.events)
    task = _face_of(SyncTask, Session.task)
    stream_token = _call(Session.stream_token)
    close = _call(Session.close)


class SyncClient(Blocking[Client]):
    """Client, blocking. Use it as `with SyncClient() as client:`, or call `close` when done."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | CredentialSource | None = None,
        event_models: Sequence[type[BaseModel]] = (),
        options: ClientOptions | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Start the thread, connect to nothing yet; for the arguments see Client."""
        client = Client(url, api_key=api_key, event_models=event_models, options=options, headers=headers)
        super().__init__(client, LoopThread())

    @property
    def url(self) -> str:
        """The control plane's address."""
        return self._inner.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all streams, close all connections and end the thread."""
        if self._thread.is_closed:
            return
        try:
            self._thread.run(self._inner.aclose())
        finally:
            self._thread.close()

    start_session = _block_of(SyncSession, Client.start_session)
    open_session = _call_for(SyncSession, Client.open_session)
    close_session = _call(Client.close_session)
    session = _call_for(SyncSession, Client.session)
    run_workflow = _call_for(SyncTask, Client.run_workflow)
    get_task_result_stream = _face_of(SyncTaskStream[Any], Client.get_task_result_stream)
    send_event = _call(Client.send_event)
    task = _face_of(SyncTask, Client.task)
    tasks = _stream_of(Client.tasks)
    dead_letters = _stream_of(Client.dead_letters)
    requeue = _call_for(SyncTask, Client.requeue)
    drop_dead_letter = _call(Client.drop_dead_letter)
    revoke_token = _call(Client.revoke_token)
    put_schedule = _call(Client.put_schedule)
    schedules = _stream_of(Client.schedules)
    schedule = _call(Client.schedule)
    delete_schedule = _call(Client.delete_schedule)
    pause_schedule = _call(Client.pause_schedule)
    resume_schedule = _call(Client.resume_schedule)
    trigger_schedule = _call_for(SyncTask, Client.trigger_schedule)
    create_key = _call(Client.create_key)
    keys = _stream_of(Client.keys)
    key = _call(Client.key)
    rotate_key = _call(Client.rotate_key)
    revoke_key = _call(Client.revoke_key)
    whoami = _call(Client.whoami)
    workflows = _call(Client.workflows)
    workers = _call(Client.workers)
    fleet = _call(Client.fleet)
    limits = _call(Client.limits)
