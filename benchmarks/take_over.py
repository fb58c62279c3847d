"""How long a task stands still whose worker was killed.

    python -m benchmarks.take_over [--kills 20]

A workflow that is declared for an hour runs on one of three workers; that worker is killed (SIGKILL) and started again,
so many times. Told is the time from each kill to the first event that the next attempt writes, as its reader sees it.
Default settings.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.percentiles import percentile
from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster, Plan

_WORKFLOW = '''
import asyncio
from datetime import timedelta
from tailplane.workers import workflow

@workflow(timeout=timedelta(hours=1), retries=1000)
async def long(ctx):
    """Tick for an hour."""
    for i in range(72_000):
        await ctx.emit(i)
        await asyncio.sleep(0.05)
'''


async def measure(kills: int) -> list[float]:
    """Return the seconds of each take-over, on a cluster of its own."""
    with tempfile.TemporaryDirectory() as folder:
        workflows = Path(folder) / "workflows.py"
        workflows.write_text(_WORKFLOW)
        running = await asyncio.to_thread(LocalCluster(Plan(target=str(workflows), workers=3)).start)
        try:
            async with Client(running.url) as client:
                return [await _take_over(running, client) for _ in range(kills)]
        finally:
            await asyncio.to_thread(running.stop)


async def _take_over(cluster: LocalCluster, client: Client) -> float:
    task = await client.run_workflow("long")
    events = task.events()
    async for event in events:
        if event.data == 3:
            break
    holder = (await task.status()).worker_id
    (pid,) = [worker.pid for worker in await client.workers() if worker.worker_id == holder]
    index = [child.pid for child in cluster.workers].index(pid)
    killed = time.monotonic()
    cluster.kill_worker(index)
    seconds = 0.0
    async with asyncio.timeout(60):
        async for event in events:
            if event.attempt == 2 and event.kind != "platform":
                seconds = time.monotonic() - killed
                break
    await task.cancel()
    await asyncio.to_thread(cluster.restart_worker, index)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.take_over", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    seconds = asyncio.run(measure(parser.parse_args(arguments).kills))
    spread = {"p50_s": percentile(seconds, 0.5), "p99_s": percentile(seconds, 0.99), "max_s": max(seconds)}
    print(json.dumps({"kills": len(seconds)} | {name: round(value, 2) for name, value in spread.items()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
