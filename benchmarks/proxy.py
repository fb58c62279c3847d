"""A TCP proxy in the driver that resets its connections when told to: what a bad network does to a long stream."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator


class Proxy:
    """Forwards a port of its own to another one of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def cut(self) -> bool:
        """Reset all connections; return whether there were any."""
        cut = False
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            if not writer.transport.is_closing() and connection is not None:
                # Linger 0 closes with a reset, in the middle of whatever flows.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                cut = True
        return cut

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        try:
            answer, request = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, request}
        self._writers |= pair
        try:
            await asyncio.gather(_pump(reader, request), _pump(answer, writer))
        finally:
            self._writers -= pair
            for end in pair:
                end.transport.abort()


@contextlib.asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy for the length of a block."""
    one = Proxy(target)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        one.cut()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    with contextlib.suppress(OSError, RuntimeError):
        sink.write_eof()
