"""Tasks are spread over the workers, and their streams are live on the far side of the load balancer."""

import asyncio
import time
from collections import Counter

from benchmarks.percentiles import percentile
from tailplane.client import Client
from tests.compose.cluster import WORKERS, Cluster


async def test_tasks_are_spread_over_all_workers(cluster: Cluster) -> None:
    async with Client(cluster.url) as client:
        tasks = [await client.run_workflow("whereabouts", 0.2) for _ in range(30 * WORKERS)]
        hosts = Counter([await task.result() for task in tasks])
    assert set(hosts) == {container.host for container in cluster.containers("worker")}
    # Each could take all of them at once: that nobody does is the doorbell's doing.
    assert min(hosts.values()) >= 3, hosts


async def test_a_first_event_is_with_the_client_at_once(cluster: Cluster) -> None:
    """From the workflow's clock to the client's, which is the same one. What held an event back would add to it."""
    delays = []
    async with Client(cluster.url) as client:
        for _ in range(100):
            task = await client.run_workflow("clocked", {"count": 1, "pause": 1.0})
            async for written_at in task.results():
                delays.append(time.time() - written_at)
                break
            await task.cancel()
    print(f"first events: p50 {percentile(delays, 0.5) * 1000:.1f} ms, p99 {percentile(delays, 0.99) * 1000:.1f} ms")
    assert percentile(delays, 0.5) < 0.1


async def test_all_events_of_many_streams_are_live(cluster: Cluster) -> None:
    async def follow(client: Client) -> list[float]:
        task = await client.run_workflow("clocked", {"count": 100, "pause": 0.05})
        return [time.time() - written_at async for written_at in task.results()]

    async with Client(cluster.url) as client:
        seen = await asyncio.gather(*(follow(client) for _ in range(20)))
    delays = [delay for one in seen for delay in one]
    assert len(delays) == 20 * 100
    print(f"all events: p50 {percentile(delays, 0.5) * 1000:.1f} ms, p99 {percentile(delays, 0.99) * 1000:.1f} ms")
    assert percentile(delays, 0.5) < 0.1


async def test_a_browser_s_stream_is_live_too(cluster: Cluster) -> None:
    """Server-sent events over plain HTTP/1.1, each seen when it has come and not when the stream ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port)
    body = b'{"count": 20, "pause": 0.05}'
    head = (
        "POST /v1/workflows/clocked/stream HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        "Connection: close",
    )
    writer.write("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    delays = []
    while line := await reader.readline():
        _, found, written_at = line.decode().rstrip().rstrip("}").partition('"data":')
        if line.startswith(b"data:") and found and not written_at.startswith("{"):
            delays.append(time.time() - float(written_at))
    writer.close()
    assert len(delays) == 20
    assert percentile(delays, 0.5) < 0.1
