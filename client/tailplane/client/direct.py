"""HTTP/1.1 straight to the control plane, where no proxy lies on the way.

httpx2 is made for every server there is, and takes 1.5 ms of processor time for a request and 0.2 ms for an event of a
stream, where this takes 0.16 and 0.03 ms: there is one server to talk to. It keeps connections that are idle, sends one
request at a time on each, and repeats nothing.
"""

import asyncio
import base64
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

from tailplane.client.bodies import Body
from tailplane.client.connection import Connection, connect
from tailplane.client.endings import Ending
from tailplane.client.exchange import Answer, Request
from tailplane.client.follower import Follower
from tailplane.client.http1 import Head, check_names, head_end, parse_head, request_head
from tailplane.client.intake import Intake
from tailplane.client.options import ClientOptions
from tailplane.client.pieces import memory_for_pieces

# Shorter than the time after which any server closes an idle connection (uvicorn by itself 5 s, our control plane 75):
# or requests are sent into a closing one.
IDLE_CONNECTION_S = 4.0
MOST_IDLE = 20
# Used again so soon, a connection is not asked whether it stands: a lost race is repeated like any lost answer.
_TRUSTED_S = 0.05
# The largest answer that is taken whole, and how long its body may take, however lively it drips: bounds against a
# broken peer, far over what a control plane answers.
MOST_BYTES = 64 * 1024 * 1024
LONGEST_BODY_S = 300.0


class DirectHttp:
    """The connections of one client."""

    def __init__(
        self, url: httpx2.URL, options: ClientOptions, headers: Mapping[str, str], tls: ssl.SSLContext | None
    ) -> None:
        """Open nothing yet.

        Args:
            url: the control plane's.
            options: timeouts.
            headers: sent with every request.
            tls: None for http.
        """
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._root = url.raw_path.decode("ascii").partition("?")[0].rstrip("/")
        self._tls = tls
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])
        self._headers = _common_headers(url, headers)
        self._connect_s = options.connect_timeout.total_seconds()
        self._write_s = options.answer_timeout.total_seconds()
        self._memory = memory_for_pieces(None)
        # The longest idle first; the other end is used first.
        self._idle: list[tuple[float, Connection]] = []
        self._used: set[Connection] = set()
        self._is_closed = False

    async def send(self, request: Request) -> Answer:
        """Send a request, once, and return the answer."""
        connection = await self._ask(request)
        try:
            head, rest = await _read_head(connection, request.answer_s)
            body = head.body()
            content = await _read_body(connection, body, rest, request.answer_s)
        except BaseException:
            self._drop(connection)
            raise
        if head.keeps_alive and body.is_complete and not body.excess:
            self._keep(connection)
        else:
            self._drop(connection)
        return Answer(head.status, head.headers, _plain(head, content))

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator["DirectAnswer"]:
        """Send a request, once, and hold the answer open for a block's length; the connection is not used again."""
        connection = await self._ask(request)
        try:
            head, rest = await _read_head(connection, request.answer_s)
            connection.unread(rest)
            yield DirectAnswer(connection, head, self._write_s)
        finally:
            self._drop(connection)

    async def aclose(self) -> None:
        """Close all connections."""
        self._is_closed = True
        for connection in [*self._used, *(connection for _, connection in self._idle)]:
            connection.close()
        self._idle.clear()
        # Sockets are closed in the loop's next turn, and the caller's loop may have none.
        await asyncio.sleep(0)

    async def _ask(self, request: Request) -> Connection:
        """Send a request and return the connection that its answer comes over."""
        headers = {**self._headers, **request.headers}
        if request.body is not None:
            headers["content-length"] = str(len(request.body))
        raw = request_head(request.method, self._root + request.target, headers) + (request.body or b"")
        connection = self._take_idle()
        if connection is None:
            memory = memory_for_pieces(self._memory)
            connection = await connect(self._host, self._port, self._tls, self._connect_s, memory)
            if self._is_closed:
                connection.close()
                raise httpx2.ConnectError("the client was closed meanwhile")
        self._used.add(connection)
        try:
            await connection.write(raw, self._write_s)
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def _take_idle(self) -> Connection | None:
        while self._idle:
            since, connection = self._idle.pop()
            idle_s = time.monotonic() - since
            if idle_s < IDLE_CONNECTION_S and connection.is_quiet(ask_socket=idle_s > _TRUSTED_S):
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection) -> None:
        self._used.discard(connection)
        now = time.monotonic()
        self._idle.append((now, connection))
        while len(self._idle) > MOST_IDLE or self._idle[0][0] + IDLE_CONNECTION_S < now:
            self._idle.pop(0)[1].close()

    def _drop(self, connection: Connection) -> None:
        self._used.discard(connection)
        connection.close()


class DirectAnswer:
    """An answer whose body is still to come."""

    def __init__(self, connection: Connection, head: Head, piece_s: float) -> None:
        """Hold the answer that begins with `head`; `piece_s` is how long `read` waits for the next piece."""
        self.status = head.status
        self.headers: Mapping[str, str] = head.headers
        self._head = head
        self._connection = connection
        self._piece_s = piece_s

    async def read(self) -> bytes:
        """Return the whole body."""
        return _plain(self._head, await _read_body(self._connection, self._head.body(), b"", self._piece_s))

    async def follow(self, intake: Intake) -> Ending:
        """Give the body to `intake` as it comes, and return how that ended."""
        self._connection.hand_over(Follower(self._head.body(), intake, self._connection.memory))
        return await intake.ended


async def _read_head(connection: Connection, answer_s: float | None) -> tuple[Head, bytes]:
    """Return the answer's head, and what came of its body with it."""
    received = b""
    left_s, clock = answer_s, time.monotonic
    give_up_at = None if answer_s is None else clock() + answer_s
    while True:
        data = await connection.read(left_s)
        left_s = None if give_up_at is None else max(0.0, give_up_at - clock())
        if not data:
            raise httpx2.RemoteProtocolError("the server closed the connection without an answer")
        received += data
        while end := head_end(received):
            head = parse_head(received[:end])
            received = received[end:]
            # 1xx: the answer proper follows.
            if head.status >= 200:
                return head, received


async def _read_body(connection: Connection, body: Body, rest: bytes, piece_s: float | None) -> bytes:
    pieces = [body.feed(rest)]
    size, begun = len(pieces[0]), time.monotonic()
    while not body.is_complete and body.failure is None:
        if size > MOST_BYTES or time.monotonic() - begun > LONGEST_BODY_S:
            raise httpx2.RemoteProtocolError(f"the answer is over {MOST_BYTES} bytes, or takes over {LONGEST_BODY_S} s")
        data = await connection.read(piece_s)
        if data:
            pieces.append(body.feed(data))
            size += len(pieces[-1])
        else:
            body.end()
    if body.failure is not None:
        raise httpx2.RemoteProtocolError(body.failure)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _plain(head: Head, content: bytes) -> bytes:
    coding = head.headers.get("content-encoding", "identity").lower()
    if coding == "identity" or not content:
        return content
    try:
        if coding == "gzip":
            unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
            unpacked = unpacker.decompress(content, MOST_BYTES)
            if unpacker.eof:
                return unpacked
            raise httpx2.RemoteProtocolError(f"the answer is cut off, or over {MOST_BYTES} bytes unpacked")
    except zlib.error as error:
        raise httpx2.RemoteProtocolError(f"the answer can't be unpacked: {error}") from error
    raise httpx2.RemoteProtocolError(f"the answer is packed as {coding!r}, which was not asked for")


def _common_headers(url: httpx2.URL, headers: Mapping[str, str]) -> dict[str, str]:
    common = {"host": url.netloc.decode("ascii"), "user-agent": "tailplane", "accept-encoding": "gzip"}
    common |= {name.lower(): value for name, value in headers.items()}
    check_names(common)
    if url.username or url.password:
        word = base64.b64encode(f"{url.username}:{url.password}".encode()).decode("ascii")
        common["authorization"] = f"Basic {word}"
    return common
