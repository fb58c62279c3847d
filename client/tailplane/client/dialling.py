"""From a name to a TCP connection: the first of its addresses that answers, tried in turn with a short head start.

Happy Eyeballs (RFC 8305) as anyio does it: an address that swallows packets, as a broken IPv6 route does, must not
cost the whole timeout. uvloop's `create_connection` tries one address after the other, so it is done here.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

_HEAD_START_S = 0.25

# family, and the address as `socket.connect` takes it
Address = tuple[int, Any]


async def dial(host: str, port: int) -> socket.socket:
    """Return a connected socket, non-blocking.

    Raises:
        OSError: the name is not known, or none of its addresses answers; the last one's reason.
    """
    addresses = await _addresses(host, port)
    if len(addresses) == 1:
        return await _connect(addresses[0])
    return await _race(addresses)


async def _addresses(host: str, port: int) -> list[Address]:
    with contextlib.suppress(ValueError):
        # Without the resolver, and so without its thread.
        address = ipaddress.ip_address(host)
        if address.version == 4:
            return [(socket.AF_INET, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return interleave([(family, address) for family, _, _, _, address in found])


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Return the addresses with families in turn, beginning with IPv6: what fails of one is soon tried of the other."""
    six = [each for each in addresses if each[0] == socket.AF_INET6]
    four = [each for each in addresses if each[0] != socket.AF_INET6]
    return [each for each in chain.from_iterable(zip_longest(six, four)) if each is not None]


async def _connect(address: Address) -> socket.socket:
    family, where = address
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        # Requests are small and are answered at once: waiting to fill a segment would delay each one.
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connecting, where)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _race(addresses: list[Address]) -> socket.socket:
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while addresses or running:
            if addresses:
                running.add(asyncio.create_task(_connect(addresses.pop(0))))
            head_start = _HEAD_START_S if addresses else None
            done, _ = await asyncio.wait(running, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # One by one: what came in at the same moment and is not looked at has lost.
                running.remove(task)
                error = task.exception()
                if error is None:
                    return task.result()
                errors.append(error)
    finally:
        for loser in running:
            loser.cancel()
            # Not awaited: a cancellation meanwhile would lose the winner.
            loser.add_done_callback(_close)
    raise errors[-1] if errors else OSError("the name has no address")


def _close(loser: asyncio.Task[socket.socket]) -> None:
    if not loser.cancelled() and loser.exception() is None:
        loser.result().close()
