"""HTTP clients for the peers that are read by httpx.

The pool of an `httpx.AsyncClient` looks at all its connections at every request and response, at idle ones once for
each other: with 100 requests under way three quarters of the driver's time went there, and not to the peer. So the
load is spread over several clients with few connections each. `sniffio`, which httpx otherwise tries to import in vain
at every lock that it takes, belongs to the requirements for the same reason.
"""

import asyncio
from itertools import cycle
from typing import Any

_CLIENTS = 32

REQUIREMENTS = ("httpx==0.28.1", "sniffio==1.3.1")


class HttpClients:
    """Several `httpx.AsyncClient`s of one server, without limits; take the next with `next`."""

    def __init__(self, url: str) -> None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.all = [httpx.AsyncClient(base_url=url, limits=limits, timeout=None, verify=False) for _ in range(_CLIENTS)]
        self._turns = cycle(self.all)

    def next(self) -> Any:
        """Return the client whose turn it is."""
        return next(self._turns)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self.all))
