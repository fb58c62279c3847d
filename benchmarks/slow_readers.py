"""What readers cost that do not read: their control plane's memory, and the delay of everybody else.

    python -m benchmarks.slow_readers [--readers 200] [--megabytes 100] [--silent 60]

One task writes, while readers of its stream (SSE, bare sockets) leave what comes unread; five other tasks have a reader
each that reads on. Then the silent ones read to the end, and what they got is counted: each event once, or an error.
"""

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.percentiles import percentile
from benchmarks.procfs import rss_bytes
from tailplane.client import Client, Task
from tailplane.deploy.cluster import LocalCluster, Plan

_EVENT_BYTES = 10_000
_BUSY = 5
_CALM_S = 10.0
# Of a socket that nobody reads: the kernel's smallest buffers would hide nothing, its largest would hide megabytes.
_RECEIVE_BYTES = 64 * 1024
_WORKFLOWS = '''
import asyncio, time
from tailplane.workers import workflow

@workflow
async def write(ctx, events: int, seconds: float, size: int):
    """Write events evenly over some seconds."""
    begun, text = time.monotonic(), "x" * size
    for i in range(events):
        await ctx.emit(text)
        if (late := begun + (i + 1) * seconds / events - time.monotonic()) > 0:
            await asyncio.sleep(late)

@workflow
async def beat(ctx, seconds: float):
    """Write the time, twenty times a second."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await ctx.emit(time.monotonic())
        await asyncio.sleep(0.05)
'''


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen.

    Attributes:
        grown_bytes: by how much the control plane's memory had grown at the most, while the readers were silent.
        calm_p99_s: delay of the busy readers without silent ones beside them.
        beside_p99_s: with them.
        whole: silent readers who then got each event exactly once.
        odd: what became of the others.
    """

    grown_bytes: int
    calm_p99_s: float
    beside_p99_s: float
    whole: int
    odd: list[str]


async def measure(readers: int, megabytes: float, silent_s: float) -> Findings:
    """Run it on a cluster of its own."""
    with tempfile.TemporaryDirectory() as folder:
        workflows = Path(folder) / "workflows.py"
        workflows.write_text(_WORKFLOWS)
        plan = Plan(target=str(workflows), env={"TAILPLANE_KEEP_ALIVE": "5s"})
        running = await asyncio.to_thread(LocalCluster(plan).start)
        try:
            async with Client(running.url) as client:
                return await _measure(running, client, readers, megabytes, silent_s)
        finally:
            await asyncio.to_thread(running.stop)


async def _measure(cluster: LocalCluster, client: Client, readers: int, megabytes: float, silent_s: float) -> Findings:
    pid = cluster.control_planes[0].pid
    calm = await _busy(client, min(_CALM_S, silent_s))
    before = rss_bytes(pid)
    count = int(megabytes * 1e6 / _EVENT_BYTES)
    # Written within the first two thirds of the silence.
    work = {"events": count, "seconds": silent_s * 2 / 3, "size": _EVENT_BYTES}
    task = await client.run_workflow("write", work)
    # They fall silent when they have begun to read: what connecting costs is another question.
    silent = await asyncio.gather(*(_begin(cluster.url, task) for _ in range(readers)))
    peak = asyncio.ensure_future(_peak(pid, silent_s))
    beside = await _busy(client, silent_s)
    grown = await peak - before
    await task.result(timeout=120)
    outcomes = await asyncio.gather(*(_read_on(sock, begun, count) for sock, begun in silent))
    odd = [each for each in outcomes if each != "whole"]
    return Findings(grown, percentile(calm, 0.99), percentile(beside, 0.99), len(outcomes) - len(odd), odd)


async def _busy(client: Client, seconds: float) -> list[float]:
    async def follow() -> list[float]:
        task = await client.run_workflow("beat", seconds)
        return [time.monotonic() - at async for at in task.results()]

    return [delay for delays in await asyncio.gather(*(follow() for _ in range(_BUSY))) for delay in delays]


async def _peak(pid: int, seconds: float) -> int:
    until, peak = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        peak = max(peak, rss_bytes(pid))
        await asyncio.sleep(0.2)
    return peak


async def _begin(url: str, task: Task) -> tuple[socket.socket, bytes]:
    """Connect, and return what came first."""
    parts = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (parts.hostname, parts.port))
    request = f"GET /v1/tasks/{task.task_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    await loop.sock_sendall(sock, request.encode())
    return sock, await loop.sock_recv(sock, 4096)


async def _read_on(sock: socket.socket, begun: bytes, count: int) -> str:
    """Read to the end; return `whole` if each event came once and in order, else what was odd."""
    loop = asyncio.get_running_loop()
    ids: list[int] = []
    rest, ended = begun, False
    with sock:
        while not ended:
            try:
                async with asyncio.timeout(60):
                    data = await loop.sock_recv(sock, 256 * 1024)
            except TimeoutError:
                return f"nothing for 60 s after {ids[-1:]}"
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            ids += [int(line[4:]) for line in lines if line.startswith(b"id: ")]
            ended = any(line.startswith(b"event: task.succeeded") for line in lines)
    # "queued" and "started" before them, "succeeded" behind.
    return "whole" if ended and ids == list(range(1, count + 4)) else f"{len(ids)} events, ended: {ended}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.slow_readers", description=__doc__)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--silent", type=float, default=60, help="seconds")
    options = parser.parse_args(arguments)
    found = asyncio.run(measure(options.readers, options.megabytes, options.silent))
    print(
        json.dumps(
            {
                "grown_mb": round(found.grown_bytes / 1e6, 1),
                "calm_p99_ms": round(found.calm_p99_s * 1000, 1),
                "beside_p99_ms": round(found.beside_p99_s * 1000, 1),
                "whole": found.whole,
                "odd": found.odd[:5],
            },
            indent=2,
        )
    )
    return 0 if not found.odd else 1


if __name__ == "__main__":
    sys.exit(main())
