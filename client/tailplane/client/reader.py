"""Reads a stream to its end, over as many connections as it takes.

One asyncio task per stream runs it: it opens the connections, and sleeps while an `Intake` takes from one of them what
goes into the stream's `BatchBuffer`. Decoding is `decoder`'s, judging is `resume`'s. It ends without an error only when
the stream's end was told; the end of a connection is never taken for that.
"""

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager

import httpx2

from tailplane.client.buffer import BatchBuffer
from tailplane.client.credentials import authorization
from tailplane.client.endings import Ended, Ending, Garbage, Lost
from tailplane.client.exchange import OpenAnswer, media_type
from tailplane.client.intake import Intake
from tailplane.client.problems import RETRIED_STATUSES, error_of
from tailplane.client.resume import ResumePlan
from tailplane.client.source import Source, params
from tailplane.client.transport import NOT_MENDED, Transport
from tailplane.protocol.errors import ConnectionLost, Unauthenticated, Unavailable
from tailplane.protocol.frames import MSGPACK_TYPE

logger = logging.getLogger("tailplane.client")

# PROTOCOL.md 3.2: after so many keep-alive times without a byte a connection may be taken for dead.
_SILENT_TIMES = 3
# Of a number in a header that makes sense.
_MOST_DIGITS = 16


class Reader:
    """The reading of one stream."""

    def __init__(self, transport: Transport, source: Source, buffer: BatchBuffer) -> None:
        """Read nothing yet.

        Args:
            transport: opens the connections.
            source: whose stream, and from where on.
            buffer: takes the events.
        """
        self._transport = transport
        self._source = source
        self._buffer = buffer
        self._plan = ResumePlan(transport.options.reconnect)
        self._opened_at = 0.0
        self._last_byte_at = 0.0
        self._has_moved = False
        self._credential: str | None = None
        self._keep_alive_s = transport.options.keep_alive.total_seconds()

    async def run(self) -> None:
        """Read until the end.

        Raises:
            RequestError: reading can't go on: no such task, its retention has passed, the cursor is past the end ...
            StreamGap, StreamMalformed, ConnectionLost: see `ResumePlan.delay`.
        """
        while True:
            self._has_moved = False
            self._opened_at = self._last_byte_at = time.monotonic()
            ending = await self._read_connection()
            if isinstance(ending, Ended):
                return
            if self._has_moved:
                self._plan.moved()
            # Half a keep-alive time: one is sent at once and proves little; the next comes in time, give or take.
            elif self._last_byte_at - self._opened_at >= self._keep_alive_s / 2:
                self._plan.lived()
            delay = self._plan.delay(ending, time.monotonic())
            source = self._source
            logger.debug("stream of %s from %s again in %.3f s: %s", source.name, source.beginning, delay, ending)
            await asyncio.sleep(delay)

    async def _read_connection(self) -> Ending:
        outage, options = self._transport.outage, self._transport.options
        opening_s = (options.connect_timeout + options.answer_timeout).total_seconds()
        try:
            async with asyncio.timeout(opening_s) as watchdog:
                self._credential = await self._transport.credentials.current()
                async with self._open() as answer:
                    outage.answered()
                    ending = await self._refusal(answer)
                    if ending is None:
                        watchdog.reschedule(None)
                        ending = await self._follow(answer)
        except NOT_MENDED:
            raise
        except ConnectionLost as error:
            # To where credentials come from.
            return Lost(error)
        except TimeoutError:
            return Lost(TimeoutError("the connection fell silent"))
        except (httpx2.TransportError, OSError) as error:
            outage.failed(error, options.reconnect.give_up_after)
            return Lost(outage.connection_lost(error))
        if isinstance(ending, Lost) and isinstance(ending.reason, httpx2.TransportError):
            return Lost(outage.connection_lost(ending.reason))
        return ending

    def _open(self) -> AbstractAsyncContextManager[OpenAnswer]:
        query, headers = params(self._source)
        signed = headers if self._credential is None else {**headers, **authorization(self._credential)}
        return self._transport.stream(self._source.where, query, signed)

    async def _refusal(self, answer: OpenAnswer) -> Ending | None:
        """Return why there is no stream to follow; None where there is one."""
        credentials = self._transport.credentials
        if answer.status != httpx2.codes.UNAUTHORIZED:
            credentials.accepted(self._credential)
        if answer.status == httpx2.codes.NO_CONTENT:
            return Ended()
        if httpx2.codes.is_success(answer.status):
            kind = media_type(answer.headers)
            return None if kind == MSGPACK_TYPE else Garbage(f"the answer's type is {kind!r}, not {MSGPACK_TYPE}")
        error = error_of(answer.status, answer.headers, await answer.read(), self._transport.shown_url)
        if isinstance(error, Unauthenticated) and await credentials.renew(self._credential):
            return Lost(error)
        if answer.status not in RETRIED_STATUSES:
            raise error
        return Lost(error, error.retry_after if isinstance(error, Unavailable) else None)

    async def _follow(self, answer: OpenAnswer) -> Ending:
        self._read_head(answer)
        decoder = self._source.decoder(self._transport.options.max_frame_bytes)
        intake = Intake(decoder, self._buffer, _SILENT_TIMES * self._keep_alive_s)
        try:
            return await answer.follow(intake)
        finally:
            intake.close()
            self._has_moved = self._source.take_over(decoder)
            self._last_byte_at = intake.last_byte_at

    def _read_head(self, answer: OpenAnswer) -> None:
        if keep_alive_ms := _number(answer.headers.get("tailplane-keep-alive-ms", "")):
            self._keep_alive_s = keep_alive_ms / 1000
        self._source.read_head(answer.headers.get("tailplane-cursor", ""))


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else None
