"""A TCP proxy that does to its connections what a bad network does: resets, refuses or silences them when told to."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import TypeVar


class Proxy:
    """Forwards `port` to the first of its targets that answers; each connection begins with the next one in turn.

    Attributes:
        targets: ports of this machine.
        port: its own, known while it runs.
        cuts: how often `cut` found connections.
        refuses: whether new connections are reset at once.
    """

    def __init__(self, *targets: int) -> None:
        self.targets = targets
        self.port = 0
        self.cuts = 0
        self.refuses = False
        self._turn = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> int:
        """Reset all connections, both halves of each; return how many halves there were."""
        cut = sum(map(_reset, list(self._writers)))
        self.cuts += bool(cut)
        return cut

    def hold(self) -> None:
        """Let no byte through, in neither direction: nobody is told, as when a route is lost."""
        self._flows.clear()

    def release(self) -> None:
        """Let all through again, what was held back first."""
        self._flows.set()

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        pair = {back}
        self._writers |= pair
        try:
            await self._flows.wait()
            opened = None if self.refuses else await self._open()
            if opened is None:
                _reset(back)
                return
            server, forth = opened
            pair.add(forth)
            self._writers.add(forth)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(client, forth))
                group.create_task(self._return(server, back))
        except asyncio.CancelledError:
            # By `aclose`, the only one who may. Nobody but asyncio waits for this, and it would report it.
            pass
        finally:
            self._writers -= pair
            self._serving.discard(task)
            for writer in pair:
                writer.transport.abort()

    async def aclose(self) -> None:
        """Reset all connections and wait for those who forwarded them."""
        self.refuses = True
        self.cut()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._turn += 1
        for i in range(len(self.targets)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", self.targets[(self._turn + i) % len(self.targets)])
        return None

    async def _return(self, server: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Forward what the server says."""
        await self._pump(server, back)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
            await self._flows.wait()
            sink.write_eof()
        except (OSError, RuntimeError):
            # One side was reset, as by the kernel of a process that was killed: the other one is to know.
            await self._flows.wait()
            _reset(sink)


def _reset(writer: asyncio.StreamWriter) -> bool:
    is_open = not writer.transport.is_closing() and reset_at_close(writer)
    if is_open:
        writer.transport.abort()
    return is_open


def reset_at_close(writer: asyncio.StreamWriter) -> bool:
    """Let a connection end with RST, as a broken network or a killed process would; False where it has no socket."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return sock is not None


P = TypeVar("P", bound=Proxy)


@contextlib.asynccontextmanager
async def serving(proxy: P) -> AsyncIterator[P]:
    """Run a proxy on a free port for the length of a block."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
