"""The response that streams a task's events: a plain ASGI response that sends what its reader hands over.

It ends with the terminal event, when its client goes away, when the process drains, or with its caller's credential.
A client that does not read holds up nothing but itself: `send` waits for its socket, and the reader keeps a page of the
past at the most.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import structlog
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailplane.broker import TaskRef
from tailplane.control_plane import limit_fields
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.formats import SSE, Format, choose_format
from tailplane.control_plane.gathering import TRANSPORT
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.open_streams import Place
from tailplane.control_plane.reader import EARLY
from tailplane.protocol.cursor import After, Position
from tailplane.protocol.errors import NotAcceptable, StoreUnavailable, TaskGone, TooManyReaders

log = structlog.get_logger(__name__)

# Where a request's scope takes the stream that answers it.
_STREAMS = "tailplane.streams"
# Set in a request's scope where nothing but the head of the answer is wanted.
HEAD_ALONE = "tailplane.head_alone"
# Bytes that wait for a client's socket, past which it is slow: its task then waits for it.
_SLOW_BYTES = 32 * 1024
# Milliseconds: readers that are asked to connect elsewhere come back spread over this time.
RECONNECT_MS = (100, 1000)
# How much of a keep-alive time passes before the next one, at least.
_SOONEST = 0.75
# Seconds between two tries of a reader that is behind, while Redis is away.
PAUSE = 0.25
# Seconds that a stream has to end properly, once it is cut: one whose client does not read is closed in its middle.
GRACE = 0.5


async def stream_events(
    request: Request,
    hub: Hub,
    task: TaskRef,
    *,
    position: Position,
    keep_alive: timedelta,
    drain: asyncio.Event,
    place: Place,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the response that streams a task from `position` on; 204 where nothing can follow it.

    Raises:
        NotAcceptable: the client takes none of the formats.
        TaskNotFound, CursorPastEnd, StoreUnavailable: as `Hub.open`.
    """
    form = format_of(request)
    reader = await hub.open(task, position)
    if reader.is_at_end and isinstance(position, After):
        await reader.close()
        # What ends a browser's EventSource for good.
        return Response(status_code=204)
    named = {"tailplane-task-id": task.task_id, **(headers or {})}
    return EventStream(reader, form, keep_alive, drain, named, hub.counts, place)


def answer_full(request: Request, error: TooManyReaders) -> Response:
    """Return the answer for a reader too many; a browser is told to come back in an answer that it takes for a stream.

    Its EventSource would give up for good on a 429. It is known by the token in its query: who can send headers signs
    with one.

    Raises:
        TooManyReaders: nearly all others get that.
    """
    by_query = "authorization" not in request.headers and "token" in request.query_params
    if not by_query or format_of(request) is not SSE:
        raise error
    body = b": too many readers\n" + SSE.reconnect(int(error.retry_after * 1000))
    headers = {"cache-control": "no-store", "content-type": SSE.media_type, **limit_fields.of_error(error)}
    return Response(body, headers=headers)


class Following(Protocol):
    """What an `EventStream` sends: a `Reader` of one task, or one of a session's. See there."""

    is_at_end: bool

    @property
    def cursor(self) -> object: ...

    @property
    def is_caught_up(self) -> bool: ...

    async def chunk(self, form: Format, patience: float, push: Callable[[], bool] | None = None) -> bytes: ...

    def at_hand(self, form: Format) -> bytes: ...

    def wake(self) -> None: ...

    async def close(self) -> None: ...


def format_of(request: Request) -> Format:
    """Return the format that the client takes.

    Raises:
        NotAcceptable: it takes none of ours.
    """
    form = choose_format(request.headers.get("accept", ""))
    if form is None:
        raise NotAcceptable("a stream is text/event-stream, application/x-ndjson or msgpack frames")
    return form


class StreamingApp(FastAPI):
    """FastAPI, with streams that run outside of it: what routing a request needs (middleware, dependencies, some twenty
    frames) is gone while its answer streams, and no chunk passes through it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        streams: list[EventStream] = []
        scope[_STREAMS] = streams
        await super().__call__(scope, receive, send)
        for stream in streams:
            await stream.run(scope, receive, send)


class EventStream(Response):
    """Streams what a reader hands over."""

    def __init__(
        self,
        reader: Following,
        form: Format,
        keep_alive: timedelta,
        drain: asyncio.Event,
        headers: Mapping[str, str],
        counts: Counts,
        place: Place,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._reader = reader
        self._form = form
        self._keep_alive_s = self._patience = keep_alive.total_seconds()
        self._drain = drain
        self._counts = counts
        self._place = place
        self._closing: asyncio.TimerHandle | None = None
        self._clock = asyncio.get_running_loop().time
        self._sent_at = 0.0
        self._transport: Any = None
        self._is_chunked = True
        self._is_head_alone = False
        self.init_headers(
            {
                # Exactly this: browsers refuse an EventSource whose type has parameters they do not know.
                "content-type": form.media_type,
                "cache-control": "no-store",
                "x-accel-buffering": "no",
                "incremental": "?1",
                "tailplane-cursor": str(reader.cursor),
                "tailplane-keep-alive-ms": str(int(self._patience * 1000)),
                **headers,
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave the stream to `StreamingApp`, which runs it when the routing has returned."""
        scope[_STREAMS].append(self)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        self._transport = scope.get(TRANSPORT)
        self._is_chunked = scope.get("http_version") != "1.0"
        self._is_head_alone = HEAD_ALONE in scope
        leaving = asyncio.ensure_future(self._leave(receive))
        self._place.watch(self._end_soon)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if not self._is_head_alone:
                first = self._form.keep_alive + self._reader.at_hand(self._form)
                await send({"type": "http.response.body", "body": first, "more_body": True})
                await self._send_events(leaving, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._counts.ended[self._why_ended(leaving),] += 1
            self._place.leave()
            if self._closing is not None:
                self._closing.cancel()
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving
            await self._reader.close()

    def _why_ended(self, leaving: "asyncio.Future[None]") -> str:
        if self._reader.is_at_end:
            return "end"
        if self._place.is_cut:
            return "cut"
        if leaving.done() or self._is_head_alone:
            return "left"
        return "drain" if self._drain.is_set() else "gone"

    async def _send_events(self, leaving: "asyncio.Future[None]", send: Send) -> None:
        reader, form = self._reader, self._form
        push = self._push if self._transport is not None and self._is_chunked else None
        self._sent_at = self._clock()
        while not (reader.is_at_end or leaving.done() or self._must_end):
            # Nothing is made for a client before it has read what there was, and held meanwhile.
            await self._wait_if_slow(send)
            patience = max(0.0, self._sent_at + self._patience - self._clock())
            try:
                chunk = await reader.chunk(form, patience, push)
            except StoreUnavailable:
                # Only this reader's past is out of reach: it stays connected.
                await asyncio.sleep(PAUSE)
                chunk = b""
            except TaskGone as error:
                # The client connects again, and is told why there is nothing more.
                log.info("stream removed under a reader", reason=str(error), **error.facts)
                return
            # Many a wake-up brings nothing for this reader; a sign of life is due when its time has come.
            if chunk or self._clock() - self._sent_at >= self._patience - EARLY:
                if not chunk:
                    # Drawn anew: what fell due together, as while the loop was busy, would else do so for ever.
                    self._patience = self._keep_alive_s * random.uniform(_SOONEST, 1.0)
                # What was pushed while it waited for this chunk may have filled the client's socket.
                await self._wait_if_slow(send)
                await send({"type": "http.response.body", "body": chunk or form.keep_alive, "more_body": True})
                self._sent_at = self._clock()
                if not reader.is_caught_up:
                    # Neither reading nor sending need wait where a page is at hand: others are due too.
                    await asyncio.sleep(0)
        if self._must_end and not reader.is_at_end:
            hint = form.reconnect(random.randint(*RECONNECT_MS))
            await send({"type": "http.response.body", "body": hint, "more_body": True})

    async def _wait_if_slow(self, send: Send) -> None:
        if self._is_slow:
            self._counts.slow += 1
            await send({"type": "http.response.body", "body": b"", "more_body": True})

    def _push(self) -> bool:
        """Send what has come from within the callback that brought it, as the HTTP chunk that the server would make of
        it: to wake a task for each entry and each reader costs more than the sending.

        Returns:
            False: it is the task's turn, because the client is slow, the stream is at its end, there is more, or it
            must end.
        """
        transport = self._transport
        if self._must_end or transport.is_closing() or self._is_slow:
            return False
        chunk = self._reader.at_hand(self._form)
        if not chunk:
            return False
        transport.push(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self._sent_at = self._clock()
        return self._reader.is_caught_up and not self._reader.is_at_end

    @property
    def _is_slow(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > _SLOW_BYTES

    @property
    def _must_end(self) -> bool:
        return self._place.is_cut or self._drain.is_set()

    def _end_soon(self) -> None:
        """End, for the credential has: its client connects again, and is told so."""
        self._reader.wake()
        if self._transport is not None:
            self._closing = asyncio.get_running_loop().call_later(GRACE, self._transport.abort)

    async def _leave(self, receive: Receive) -> None:
        """Return when the client has gone; whatever it sends is read and dropped."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._reader.wake()
