"""A cluster on a store that the test watches over, and readers of its streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tailplane.client import Client
from tailplane.deploy.cluster import LocalCluster, Plan

from .conftest import WORKFLOWS


@contextlib.asynccontextmanager
async def cluster_on(redis_url: str) -> AsyncIterator[LocalCluster]:
    plan = Plan(target=str(WORKFLOWS), workers=2, env={"TAILPLANE_REDIS_URL": redis_url})
    running = await asyncio.to_thread(LocalCluster(plan).start)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.stop)


async def follow(client: Client, task_id: str, seen: list[object]) -> None:
    async for event in client.get_task_result_stream(task_id):
        seen.append(event)


async def until_all_have(lists: list[list[object]], count: int) -> None:
    async with asyncio.timeout(60):
        while any(len(each) < count for each in lists):
            await asyncio.sleep(0.02)
