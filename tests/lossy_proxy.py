"""A TCP proxy in front of Redis that lets a command through and loses its reply: a network at the worst time."""

import asyncio
import contextlib

from .proxy import Proxy


class LossyProxy(Proxy):
    """A proxy that, when told to, closes a connection instead of passing on what comes back.

    Attributes:
        lost: how many replies it has lost.
    """

    def __init__(self, *targets: int) -> None:
        super().__init__(*targets)
        self.lost = 0
        self._to_lose = 0

    def lose_next_reply(self, count: int = 1) -> None:
        """Lose the next `count` replies, each with its connection. Connect before: a handshake has replies too."""
        self._to_lose = count

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
