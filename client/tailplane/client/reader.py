"""Reads one task's stream to its end, over as many connections as it takes.

One asyncio task per stream runs it; it puts batches of events into a `BatchBuffer` and keeps the cursor. Decoding is
`decoder`'s, judging is `resume`'s. It ends without an error only when the stream's terminal event was seen; the end of
a connection is never taken for that.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, aclosing

import httpx2

from tailplane.client.buffer import BatchBuffer
from tailplane.client.decoder import FrameDecoder
from tailplane.client.endings import Ended, Ending, Garbage, Lost
from tailplane.client.problems import RETRIED_STATUSES, error_of
from tailplane.client.resume import ResumePlan
from tailplane.client.transport import NOT_MENDED, Transport, content_type, path
from tailplane.protocol.cursor import After, Cursor, parse_position
from tailplane.protocol.errors import Unavailable
from tailplane.protocol.frames import MSGPACK_TYPE

logger = logging.getLogger("tailplane.client")

# PROTOCOL.md 3.2: after so many keep-alive times without a byte a connection may be taken for dead.
_SILENT_TIMES = 3


class Reader:
    """The reading of one stream."""

    def __init__(self, transport: Transport, task_id: str, start: Cursor | str, buffer: BatchBuffer) -> None:
        """Read nothing yet.

        Args:
            transport: opens the connections.
            task_id: whose stream.
            start: a cursor, `start`, `now` or `-N`.
            buffer: takes the events.
        Raises:
            InvalidCursor: `start` is none of these.
        """
        position = parse_position(str(start))
        self._transport = transport
        self._task_id = task_id
        self._start = str(start)
        # None: `now` and `-N` have no number before the first event; then there is no hole to see, either.
        self._cursor: Cursor | None = position.seq if isinstance(position, After) else None
        self._buffer = buffer
        self._plan = ResumePlan(transport.options.reconnect)
        self._opened_at = 0.0
        self._last_byte_at = 0.0
        self._keep_alive_s = transport.options.keep_alive.total_seconds()

    async def run(self) -> None:
        """Read until the terminal event.

        Raises:
            RequestError: reading can't go on: no such task, its retention has passed, the cursor is past the end ...
            StreamGap, StreamMalformed, ConnectionLost: see `ResumePlan.delay`.
        """
        clock = asyncio.get_running_loop().time
        while True:
            cursor = self._cursor
            self._opened_at = self._last_byte_at = clock()
            ending = await self._read_connection()
            if isinstance(ending, Ended):
                return
            if self._cursor != cursor:
                self._plan.moved()
            # Half a keep-alive time: one is sent at once and proves little; the next comes in time, give or take.
            elif self._last_byte_at - self._opened_at >= self._keep_alive_s / 2:
                self._plan.lived()
            delay = self._plan.delay(ending, clock())
            logger.debug("stream of %s from %s again in %.3f s: %s", self._task_id, self._cursor, delay, ending)
            await asyncio.sleep(delay)

    async def _read_connection(self) -> Ending:
        options = self._transport.options
        opening_s = (options.connect_timeout + options.answer_timeout).total_seconds()
        try:
            async with asyncio.timeout(opening_s) as watchdog, self._open() as response:
                self._transport.outage.answered()
                return await self._refusal(response) or await self._follow(response, watchdog)
        except NOT_MENDED:
            raise
        except TimeoutError:
            return Lost(TimeoutError("the connection fell silent"))
        except (httpx2.TransportError, OSError) as error:
            self._transport.outage.failed(error, options.reconnect.give_up_after)
            return Lost(self._transport.outage.connection_lost(error))

    def _open(self) -> AbstractAsyncContextManager[httpx2.Response]:
        where = path("tasks", self._task_id, "events")
        if self._cursor is None:
            return self._transport.stream(where, {"from": self._start}, {})
        # Both: only the header gets 204 for an ended task seen to its end, and only the parameter survives every proxy.
        headers = {"Last-Event-ID": str(self._cursor)} if self._cursor > 0 else {}
        return self._transport.stream(where, {"from": str(self._cursor)}, headers)

    async def _refusal(self, response: httpx2.Response) -> Ending | None:
        """Return why there is no stream to follow; None where there is one."""
        if response.status_code == httpx2.codes.NO_CONTENT:
            return Ended()
        if response.is_success:
            kind = content_type(response)
            return None if kind == MSGPACK_TYPE else Garbage(f"the answer's type is {kind!r}, not {MSGPACK_TYPE}")
        body = await response.aread()
        error = error_of(response.status_code, response.headers, body, str(response.request.url))
        if response.status_code not in RETRIED_STATUSES:
            raise error
        return Lost(error, error.retry_after if isinstance(error, Unavailable) else None)

    async def _follow(self, response: httpx2.Response, watchdog: asyncio.Timeout) -> Ending:
        clock = asyncio.get_running_loop().time
        buffer = self._buffer
        self._read_head(response)
        decoder = FrameDecoder(self._cursor, self._transport.options.max_frame_bytes)
        silence_s = _SILENT_TIMES * self._keep_alive_s
        not_handed_over = 0
        async with aclosing(response.aiter_raw()) as chunks:
            watchdog.reschedule(clock() + silence_s)
            async for chunk in chunks:
                self._last_byte_at = clock()
                events = decoder.feed(chunk)
                not_handed_over += len(chunk)
                if events:
                    self._cursor = decoder.cursor
                    buffer.put(events, not_handed_over)
                    not_handed_over = 0
                if decoder.ending is not None:
                    return decoder.ending
                if buffer.is_full:
                    # The silence is ours now: what the control plane sends meanwhile waits in the socket.
                    watchdog.reschedule(None)
                    await buffer.room()
                watchdog.reschedule(clock() + silence_s)
        return Lost(EOFError("the response ended without a terminal event"))

    def _read_head(self, response: httpx2.Response) -> None:
        said = response.headers.get("tailplane-keep-alive-ms", "")
        if said.isdecimal() and int(said) > 0:
            self._keep_alive_s = int(said) / 1000
        # Where the control plane says at which seq `now` or `-N` begins, a loss before the first event loses no event.
        at = response.headers.get("tailplane-cursor", "")
        if self._cursor is None and at.isdecimal():
            self._cursor = int(at)
