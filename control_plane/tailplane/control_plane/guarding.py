"""uvicorn's HTTP protocol with limits: nobody holds a connection, its memory or its worker for nothing.

What is refused here never reaches the application: heads that do not come, have no end or say two things, bodies that
stand still, answers that nobody reads, connections past the limit. The parser (llhttp, strict) refuses what request
smuggling is made of: a length and a coding at once, two lengths, bare line feeds, folded headers. Each refusal is a
problem document, where there is still something to answer, and ends the connection. docs/security.md lists the limits.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tailplane.control_plane.connections import ANSWERED_OVER_LIMIT, PROGRESS_BYTES, Connections
from tailplane.control_plane.gathering import GatheringProtocol
from tailplane.control_plane.problems import PROBLEM_TYPE
from tailplane.control_plane.security_headers import RAW_HEADERS
from tailplane.protocol import json_codec
from tailplane.protocol.errors import RequestError, TailplaneError, Unavailable

# Said twice they would mean one thing to a proxy and another here.
_ONCE = frozenset(
    {
        b"host",
        b"authorization",
        b"content-type",
        b"content-encoding",
        b"idempotency-key",
        b"if-match",
        b"last-event-id",
        b"origin",
    }
)
# Requests that one connection may have sent ahead. Hardly anybody does, and each takes memory before it is due.
_MOST_AHEAD = 8


class Refusal(Exception):
    """What was read is not taken.

    Attributes:
        reason: for the metric.
        status: of the answer.
    """

    def __init__(self, reason: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status = status

    def answer(self) -> bytes:
        """Return the answer, as it goes over the connection, which ends with it."""
        document = RequestError(str(self)).problem() | {
            "status": self.status,
            "title": HTTPStatus(self.status).phrase,
        }
        return _answer(self.status, document, [])


def _answer(status: int, document: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> bytes:
    body = json_codec.to_json(document)
    lines = [
        (b"content-type", PROBLEM_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *RAW_HEADERS,
        *headers,
    ]
    return b"".join([STATUS_LINE[status], *(b"%b: %b\r\n" % line for line in lines), b"\r\n", body])


def _full() -> bytes:
    error: TailplaneError = Unavailable("this control plane has as many connections as it takes", retry_after=1.0)
    return _answer(error.status, error.problem(), [(b"retry-after", b"1")])


def _answer_without_chunks(cycle: RequestResponseCycle) -> None:
    """Let an answer without a length be sent as it is, and end with the connection: HTTP/1.0 knows no chunks.

    Nor does it know `100 Continue`. uvicorn ends the connection in any case.
    """
    send, has_length = cycle.send, True

    async def send_as_it_is(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            cycle.chunked_encoding = None if has_length else False
        elif not has_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_as_it_is  # type: ignore[method-assign]
    cycle.waiting_for_100_continue = False


class GuardedProtocol(GatheringProtocol):
    """One connection, with limits."""

    def __init__(self, *args: Any, guard: Connections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self._limits = guard.limits
        # What is being read: nothing yet of the next request, its head, or its body.
        self._reads: Literal["nothing", "head", "body"] = "nothing"
        # A new connection's is, from its first moment.
        self._is_head_due = True
        self._fed = 0
        self._body_bytes = self._body_bytes_noted = 0
        # Nothing more that comes counts; over the limit, the first bytes that come are answered.
        self._is_deaf = self._is_over_limit = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or only to tell it that there are too many."""
        super().connection_made(transport)
        self.transport.on_unsent = self._note_unsent  # type: ignore[attr-defined]
        over = len(self.connections) - self._limits.max_connections
        if over > 0:
            self._guard.refused["connections",] += 1
            self._is_deaf = self._is_over_limit = True
            if over > ANSWERED_OVER_LIMIT:
                self.transport.abort()
                return
        self._guard.heads.begin(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        guard = self._guard
        for waits in (guard.heads, guard.bodies, guard.unread, guard.leaving):
            waits.end(self)
        self._is_deaf = True
        # Or each would keep the other, until a collection of garbage: there are few.
        self.transport.on_unsent = None  # type: ignore[attr-defined]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self._is_deaf:
            if self._is_over_limit:
                self._is_over_limit = False
                self._say_and_leave(_full(), is_head=data.startswith(b"HEAD "))
            return
        self._unset_keepalive_if_required()
        self._fed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Served as a request like any other (Java's client offers h2c with its first one), and nothing after it.
            self._take_no_more()
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            # The error's text may hold a piece of what was sent, secrets too.
            self._refuse(cause if isinstance(cause, Refusal) else Refusal("malformed", 400, "this is no HTTP/1.1"))
            return
        if self._reads != "nothing" or self._is_at_rest:
            self._note_what_is_due()

    @property
    def _is_at_rest(self) -> bool:
        """Whether no request is being served."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _note_what_is_due(self) -> None:
        guard = self._guard
        if self._reads == "body":
            if len(self.headers) > self._limits.max_headers:
                self._refuse(Refusal("head", 431, "there are too many trailers"))
            elif self._body_bytes_noted < 0 or (
                self._body_bytes - self._body_bytes_noted >= PROGRESS_BYTES and not self.cycle.response_complete
            ):
                self._body_bytes_noted = self._body_bytes
                guard.bodies.begin(self, self.loop.time())
            return
        if self._fed > self._limits.max_head_bytes:
            self._refuse(self._too_large())
        elif not self._is_head_due:
            # Also where nothing but line breaks came: the timer of idle connections has just been stopped.
            self._is_head_due = True
            guard.heads.begin(self, self.loop.time())

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._reads = "head"

    def on_headers_complete(self) -> None:
        """Let the application have the request, if it is one that can be taken."""
        self._check_head()
        # Raises where the URL is none: it is still the head then.
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":
            _answer_without_chunks(self.cycle)
        if self._is_head_due:
            self._is_head_due = False
            self._guard.heads.end(self)
        self._reads = "body"
        self._fed = self._body_bytes = 0
        self._body_bytes_noted = -1
        # The application has the list: what trailers say does not get into it.
        self.headers = []

    def _check_head(self) -> None:
        limits, headers = self._limits, self.headers
        if len(self.url) > limits.max_url_bytes:
            raise Refusal("head", 414, f"the URL is over {limits.max_url_bytes:,} bytes")
        if len(headers) > limits.max_headers:
            raise Refusal("head", 431, f"there are over {limits.max_headers} headers")
        # Only what came in one piece with more can be larger than what has come.
        if self._fed > limits.max_head_bytes and self._head_bytes > limits.max_head_bytes:
            raise self._too_large()
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            raise Refusal("malformed", 505, "this is no HTTP/1.1")
        said = {}
        for name, value in headers:
            if name in said and name in _ONCE:
                raise Refusal("malformed", 400, f"the header {name.decode('latin-1')} is there twice")
            said[name] = value
        coding = said.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or self.parser.get_http_version() == "1.0"):
            raise Refusal("malformed", 400, "a body is sent as it is, or chunked, and not chunked with HTTP/1.0")
        if len(self.pipeline) >= _MOST_AHEAD:
            raise Refusal("malformed", 400, "too many requests were sent ahead")

    @property
    def _head_bytes(self) -> int:
        # As they would be written: `name: value` and the line's end.
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> Refusal:
        limits = self._limits
        # Of a URL that does not end there is nothing else yet.
        if len(self.url) > limits.max_url_bytes:
            return Refusal("head", 414, f"the URL is over {limits.max_url_bytes:,} bytes")
        return Refusal("head", 431, f"the request's head is over {limits.max_head_bytes:,} bytes")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._reads = "nothing"
        self._fed = 0
        if self._body_bytes_noted >= 0:
            self._guard.bodies.end(self)

    def pause_writing(self) -> None:
        """Hold back: the client does not read."""
        super().pause_writing()
        self._note_unsent()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._guard.unread.end(self)

    def _note_unsent(self) -> None:
        self._guard.unread.begin(self, self.loop.time())

    def shutdown(self) -> None:
        """Close as soon as what is being served has been."""
        if self._is_deaf and self._is_at_rest:
            self.transport.close()
            return
        super().shutdown()

    def give_up_head(self) -> None:
        """End: the head did not come in time."""
        self._is_head_due = False
        if self._reads == "head":
            self._refuse(Refusal("head_timeout", 408, "the request's head did not come in time"))
        elif self._is_at_rest and not self.transport.is_closing():
            # Nothing was asked, so nothing is answered: browsers open connections ahead.
            self._guard.refused["head_timeout",] += 1
            self.transport.close()

    def give_up_body(self) -> None:
        """End: the body makes no progress."""
        self._refuse(Refusal("body_timeout", 408, "the request's body did not come in time"))

    def give_up_sending(self) -> None:
        """End, unless it is a stream that is not being closed: its reader may take its time, and costs no more.

        Not so a reader by HTTP/1.0, whose stream looks like any other answer here.
        """
        is_stream = not self._is_at_rest and self.cycle.chunked_encoding
        if self.transport.is_closing() or not is_stream:
            self._guard.refused["send_timeout",] += 1
            self.transport.abort()

    def leave(self) -> None:
        """End: the answer has been there for long enough."""
        self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        if self._is_deaf or self.transport.is_closing():
            return
        self._guard.refused[refusal.reason,] += 1
        if self._reads != "body" and not self._is_at_rest:
            # An earlier request is being served: its answer must not have this one's in it.
            self._take_no_more()
        elif self._reads == "body" and (self.pipeline or self.cycle.response_started):
            self._disconnect()
            self.transport.close()
        else:
            if self._reads == "body":
                self._disconnect()
            # Of a request that has no URL yet the parser has the method of the one before.
            is_head = self._reads != "nothing" and bool(self.url) and self.parser.get_method() == b"HEAD"
            self._say_and_leave(refusal.answer(), is_head=is_head)

    def _disconnect(self) -> None:
        """Let the application find its client gone."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    def _take_no_more(self) -> None:
        """Close when all that has been asked is answered."""
        self._is_deaf = True
        if self._is_at_rest:
            self.transport.close()
            return
        self.cycle.keep_alive = False

    def _say_and_leave(self, answer: bytes, *, is_head: bool) -> None:
        self._is_deaf = True
        if is_head:
            answer = answer[: answer.index(b"\r\n\r\n") + 4]
        self.transport.push(answer)  # type: ignore[attr-defined]
        if self.transport.is_closing():
            return
        self._guard.heads.end(self)
        self._guard.leaving.begin(self, self.loop.time())
        if self.transport.can_write_eof():
            self.transport.write_eof()
