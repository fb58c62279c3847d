"""One TCP or TLS connection, as an asyncio protocol: what HTTP is spoken over here.

It is read in one of two ways: piece by piece with `read`, for answers, or, after `hand_over`, by another protocol that
takes each piece where the event loop got it from the socket, without waking a task: for streams. Errors are httpx2's.
"""

import asyncio
import select
import socket
import ssl
import sys

import httpx2

from tailplane.client.dialling import dial
from tailplane.client.pieces import PieceProtocol

# What may wait for `read` before the socket is left unread.
_MOST_UNREAD = 256 * 1024


class Connection(PieceProtocol):
    """A connection; `connect` makes it. Its owner must close it."""

    def __init__(self, memory: memoryview) -> None:
        """Belong to the running loop, and wait for a transport."""
        super().__init__(memory)
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._has_ended = False
        self._error: Exception | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_clogged = False

    def is_quiet(self, *, ask_socket: bool) -> bool:
        """Whether the peer has neither closed it nor said anything that was not asked for.

        Args:
            ask_socket: also look at what the event loop has not come round to, as after code that blocked it.
        """
        return not (self._has_ended or self._received or (ask_socket and self._is_readable()))

    async def write(self, data: bytes, timeout_s: float) -> None:
        """Send `data`, waiting until the most of it is on its way.

        Raises:
            httpx2.WriteTimeout: it is not, after this time.
        """
        # A connection that is lost by now is no error yet: the peer may have answered before, and `read` tells it.
        if self._has_ended:
            return
        self._open_transport.write(data)
        if self._is_clogged and not self._has_ended:
            self._drained = self._loop.create_future()
            await self._wait(self._drained, timeout_s, httpx2.WriteTimeout("the request could not be sent in time"))

    async def read(self, timeout_s: float | None) -> bytes:
        """Return what has come, waiting for something; nothing when the peer has closed the connection.

        Raises:
            httpx2.ReadTimeout: nothing came within this time.
            httpx2.ReadError: the connection broke.
        """
        if not self._received and not self._has_ended:
            self._arrival = self._loop.create_future()
            await self._wait(self._arrival, timeout_s, httpx2.ReadTimeout("no answer came in time"))
        return self._take_received()

    def unread(self, data: bytes) -> None:
        """Put back what was read too much."""
        self._received[:0] = data

    def hand_over(self, protocol: PieceProtocol) -> None:
        """Let `protocol` take all that comes from now on, beginning with what came and was not read.

        Whatever happens to the connection is told to `protocol` alone; closing it stays with the owner.
        """
        transport = self._open_transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        # Before what follows, which may have to pause it again.
        transport.resume_reading()
        if self._received:
            protocol.take_piece(bytes(self._received))
            self._received.clear()
        if self._has_ended:
            protocol.connection_lost(self._error)

    def close(self) -> None:
        """Close it at once; what was not sent is dropped."""
        # Not `close`, which for TLS would wait for the peer's goodbye.
        self._open_transport.abort()

    def take_piece(self, piece: bytes) -> None:
        """Keep what comes for `read`."""
        self._received += piece
        if len(self._received) > _MOST_UNREAD:
            self._open_transport.pause_reading()
        _wake(self._arrival)

    def eof_received(self) -> None:
        """Note the end; the transport then closes itself."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end, and why."""
        self._end(error)

    def pause_writing(self) -> None:
        """Hold back `write`."""
        self._is_clogged = True

    def resume_writing(self) -> None:
        """Let `write` go on."""
        self._is_clogged = False
        _wake(self._drained)

    @property
    def _open_transport(self) -> asyncio.Transport:
        assert self.transport is not None
        return self.transport

    def _end(self, error: Exception | None) -> None:
        self._has_ended = True
        self._error = self._error or error
        _wake(self._arrival)
        _wake(self._drained)

    def _take_received(self) -> bytes:
        if not self._received:
            if self._error is not None:
                raise httpx2.ReadError(str(self._error)) from self._error
            return b""
        data = bytes(self._received)
        self._received.clear()
        if len(data) > _MOST_UNREAD:
            self._open_transport.resume_reading()
        return data

    def _is_readable(self) -> bool:
        sock = self._open_transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return True
        if sys.platform == "win32":
            return bool(select.select([sock], [], [], 0)[0])
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    async def _wait(self, future: "asyncio.Future[None]", timeout_s: float | None, error: Exception) -> None:
        if timeout_s is None:
            return await future
        # A timer is enough: a future that fails needs none of what asyncio.timeout does about cancellation.
        timer = self._loop.call_later(timeout_s, _fail, future, error)
        try:
            await future
        finally:
            timer.cancel()


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _fail(future: "asyncio.Future[None]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


async def connect(host: str, port: int, tls: ssl.SSLContext | None, timeout_s: float, memory: memoryview) -> Connection:
    """Return a connection to the first address of `host` that answers.

    Args:
        host: a name or an address; the certificate must be its.
        port: the TCP port.
        tls: None for a connection without encryption.
        timeout_s: for the TCP handshake, and once more for that of TLS.
        memory: for its pieces.
    Raises:
        httpx2.ConnectTimeout, httpx2.ConnectError: it can't be made.
    """
    loop = asyncio.get_running_loop()
    dialled: socket.socket | None = None
    try:
        async with asyncio.timeout(timeout_s):
            dialled = await dial(host, port)
        async with asyncio.timeout(timeout_s):
            server_hostname = None if tls is None else host
            _, connection = await loop.create_connection(
                lambda: Connection(memory), sock=dialled, ssl=tls, server_hostname=server_hostname
            )
        dialled = None
        return connection
    except TimeoutError as error:
        raise httpx2.ConnectTimeout(f"{host}:{port} did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise httpx2.ConnectError(str(error)) from error
    finally:
        if dialled is not None:
            dialled.close()
