"""A control plane that is told to stop sends its readers elsewhere and ends within its grace, however many they are."""

import asyncio
import socket
import time

import pytest

from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster, Plan

from .conftest import WORKFLOWS

READERS = 1_000
# Tasks that they follow.
QUIET = 10


async def _connect(url: str, task_id: str, receive_bytes: int | None = None) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (host, int(port)))
    request = f"GET /v1/tasks/{task_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    await loop.sock_sendall(sock, request.encode())
    return sock


async def _first(sock: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(sock, 65536)


async def _rest(sock: socket.socket) -> bytes:
    """Return what comes until the connection ends."""
    loop, seen = asyncio.get_running_loop(), b""
    while data := await loop.sock_recv(sock, 65536):
        seen = (seen + data)[-4096:]
    return seen


@pytest.mark.process
@pytest.mark.slow
async def test_a_thousand_readers_are_sent_elsewhere_within_the_grace() -> None:
    cluster = LocalCluster(Plan(target=str(WORKFLOWS), control_planes=2, concurrency=50))
    await asyncio.to_thread(cluster.start)
    readers: list[socket.socket] = []
    try:
        first, second = cluster.urls
        async with Client(second) as client:
            tasks = [await client.run_workflow("tick", 60) for _ in range(QUIET)]
            flood = await client.run_workflow("count", {"n": 300_000})
            async with asyncio.timeout(60):
                readers = [await _connect(first, tasks[i % QUIET].task_id) for i in range(READERS)]
                for sock in readers:
                    assert (await _first(sock)).startswith(b"HTTP/1.1 200")
                # These never read: what is sent to them fills every buffer on the way.
                readers += [await _connect(first, flood.task_id, 4096) for _ in range(5)]
                await flood.result(timeout=60)
            began = time.monotonic()
            child = cluster.control_planes[0]
            child.terminate()
            async with asyncio.timeout(60):
                endings = await asyncio.gather(*(_rest(sock) for sock in readers[:READERS]))
                told = time.monotonic() - began
                await asyncio.to_thread(child.wait, 30)
            assert time.monotonic() - began < 20
            # Far below the grace: nobody waits for those who do not read.
            assert told < 10
            assert all(b"retry: " in ending for ending in endings)
            for task in tasks:
                await task.cancel()
    finally:
        for sock in readers:
            sock.close()
        await asyncio.to_thread(cluster.stop)
