"""uvicorn's HTTP protocol, writing once a turn of the loop.

uvicorn writes the head of a response and its body one after the other, and uvloop makes a system call of each write:
an eighth of what a small answer costs.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Bytes that one turn may gather; more goes out at once, so that the connection tells in time that its client is slow.
_GATHERED_BYTES = 16 * 1024
# Bytes that the kernel takes without having sent them. Left alone it takes megabytes for a client that does not read,
# and this process is busy with writing those instead of serving clients that do.
_UNSENT_BYTES = 128 * 1024
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
# Where a request's scope has the connection's transport.
TRANSPORT = "tailplane.transport"


class GatheringTransport:
    """A transport whose writes of one turn of the loop go out together; otherwise the transport behind it.

    Attributes:
        on_unsent: called where it was closed and its client has not read all of what was written: it stays until then.
    """

    __slots__ = ("_loop", "_pending", "_size", "_transport", "on_unsent")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []
        self._size = 0
        self.on_unsent: Callable[[], None] | None = None

    def write(self, data: bytes) -> None:
        """Write at the end of this turn, or at once where much has gathered."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)
        self._size += len(data)
        if self._size > _GATHERED_BYTES:
            self._flush()

    def push(self, data: bytes) -> None:
        """Write at once: for who writes once a turn."""
        self._pending.append(data)
        self._flush()

    def close(self) -> None:
        """Close when all has been written."""
        self._flush()
        self._transport.close()
        if self.on_unsent is not None and self._transport.get_write_buffer_size():
            self.on_unsent()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        pending, self._pending, self._size = self._pending, [], 0
        # The connection may have been lost since.
        if pending and not self._transport.is_closing():
            self._transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GatheringProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        sock = transport.get_extra_info("socket")
        if _NOTSENT_LOWAT is not None and sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT_BYTES)
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        """Begin a request; a stream that answers it finds the transport in its scope."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[TRANSPORT] = self.transport
