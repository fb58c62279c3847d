"""Streams for code without asyncio: plain iterators over what lives on a client's own loop.

What has arrived changes threads all at once, since each change costs as much as decoding a hundred events. A stream's
events are shown one by one only on the caller's thread, so that its cursor never is ahead of what the caller has seen.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Generic, Self, TypeVar

from tailplane.client.coalesce import Batched, Coalesced
from tailplane.client.durations import Duration
from tailplane.client.loop_thread import LoopThread
from tailplane.client.session_stream import SessionEvent, SessionStream
from tailplane.client.stream import HIDDEN, Stream, TaskStream
from tailplane.protocol.cursor import Cursor

T = TypeVar("T")


class SyncStream(Generic[T]):
    """A plain iterator over a stream. Left early, it stops reading when it is collected, or at `close`."""

    def __init__(self, inner: Batched[T], thread: LoopThread) -> None:
        """Iterate over `inner`, which lives on the thread's loop."""
        self._inner = inner
        self._thread = thread
        self._items: Iterator[T] = iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while True:
            for item in self._items:
                return item
            try:
                self._items = iter(self._thread.run(self._inner.take()))
            except StopAsyncIteration:
                raise StopIteration from None

    def coalesce(self, interval: Duration) -> "SyncStream[list[T]]":
        """Return a view that yields lists of what arrived, at most one per interval; see `Stream.coalesce`."""
        return SyncStream(Coalesced(self._inner, interval), self._thread)

    def close(self) -> None:
        """Stop reading and give the connection back."""
        self._items = iter(())
        self._thread.run(self._inner.aclose())


class _EventByEvent(SyncStream[T]):
    """A stream that knows its place behind each item."""

    @property
    @abstractmethod
    def _stream(self) -> Stream[T]:
        """The stream itself."""

    def __next__(self) -> T:
        stream = self._stream
        try:
            while (item := stream.at_hand()) is HIDDEN:
                self._thread.run(stream.refill())
        except StopAsyncIteration:
            raise StopIteration from None
        return item


class SyncTaskStream(_EventByEvent[T]):
    """TaskStream, blocking."""

    def __init__(self, inner: TaskStream[T], thread: LoopThread) -> None:
        """Iterate over `inner`, which lives on the thread's loop."""
        super().__init__(inner, thread)
        self._task_stream = inner

    @property
    def _stream(self) -> Stream[T]:
        return self._task_stream

    @property
    def cursor(self) -> Cursor:
        """The seq of the last event taken out, hidden ones included; a later stream may start there. 0 at first."""
        return self._task_stream.cursor


class SyncSessionStream(_EventByEvent[SessionEvent]):
    """SessionStream, blocking."""

    def __init__(self, inner: SessionStream, thread: LoopThread) -> None:
        """Iterate over `inner`, which lives on the thread's loop."""
        super().__init__(inner, thread)
        self._session_stream = inner

    @property
    def _stream(self) -> Stream[SessionEvent]:
        return self._session_stream

    @property
    def cursor(self) -> str:
        """Where the events taken out so far end: a later stream of the session may start there. One opaque word."""
        return self._session_stream.cursor
