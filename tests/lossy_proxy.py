"""A TCP proxy in front of Redis that lets a command through and loses its reply: a network at the worst time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class LossyProxy:
    """Forwards `port` to a target; `lose_next_reply` makes it close a connection instead of passing on what comes back.

    Attributes:
        lost: how many replies it has lost.
    """

    target_port: int
    port: int = 0
    lost: int = 0
    _to_lose: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def lose_next_reply(self, count: int = 1) -> None:
        """Lose the next `count` replies, each with its connection. Connect before: a handshake has replies too."""
        self._to_lose = count

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        server, forth = await asyncio.open_connection("127.0.0.1", self.target_port)
        pair = {back, forth}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_forward(client, forth))
                group.create_task(self._return(server, back))
        finally:
            self._writers -= pair
            for writer in pair:
                writer.transport.abort()

    async def _return(self, server: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(65536):
                if self._to_lose:
                    self._to_lose -= 1
                    self.lost += 1
                    break
                back.write(data)
                await back.drain()
        back.transport.abort()

    def close(self) -> None:
        """Close all connections."""
        for writer in list(self._writers):
            writer.transport.abort()


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()


@contextlib.asynccontextmanager
async def lossy_proxy(target_port: int) -> AsyncIterator[LossyProxy]:
    """Run a proxy in front of a local port."""
    proxy = LossyProxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
