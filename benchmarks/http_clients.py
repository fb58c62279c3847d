"""Several HTTP clients of one server, for the systems whose users read by httpx or httpx2.

The pool of such a client looks at all its connections at every request and response, at idle ones once for each other:
with 100 requests under way three quarters of a driver's time went there, and with 1,000 streams a third, not to the
system that is measured. So the load is spread over several clients with few connections each.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_CLIENTS = 32
# Requests under way at once that go through one.
_EACH = 32

# For systems in environments of their own. `sniffio`, which httpx otherwise tries to import in vain at every lock that
# it takes, costs them less than its absence.
REQUIREMENTS = ("httpx==0.28.1", "sniffio==1.3.1")


class HttpClients:
    """Clients that `make` makes."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.all = [make() for _ in range(_CLIENTS)]
        self._under_way = 0

    @contextmanager
    def one(self) -> Iterator[Any]:
        """Give the client for one request: few at a time go through the same, and use its connections again."""
        client = self.all[self._under_way // _EACH % _CLIENTS]
        self._under_way += 1
        try:
            yield client
        finally:
            self._under_way -= 1

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self.all))


def httpx_clients(url: str) -> HttpClients:
    """Return httpx clients without limits of their own."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return HttpClients(lambda: httpx.AsyncClient(base_url=url, limits=limits, timeout=None, verify=False))
