"""A TCP proxy that resets its connections when told to: what a network does to a long stream."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class CuttingProxy:
    """Forwards `port` to a target until `cut`, which resets every connection, in the middle of whatever flows."""

    target_port: int
    port: int = 0
    cuts: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        try:
            server, forth = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            back.transport.abort()
            return
        pair = {back, forth}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(client, forth))
                group.create_task(_pump(server, back))
        finally:
            self._writers -= pair
            for writer in pair:
                writer.transport.abort()

    def cut(self) -> int:
        """Reset all connections, both halves of each; return how many halves there were."""
        cut = 0
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            if writer.transport.is_closing() or sock is None:
                continue
            # Linger 0: the close sends RST, as a broken network or a killed proxy would.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            cut += 1
        self.cuts += bool(cut)
        return cut


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(4096):
            sink.write(data)
            await sink.drain()
    with contextlib.suppress(OSError, RuntimeError):
        sink.write_eof()


@contextlib.asynccontextmanager
async def cutting_proxy(target_port: int) -> AsyncIterator[CuttingProxy]:
    """Run a proxy in front of a local port."""
    proxy = CuttingProxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
