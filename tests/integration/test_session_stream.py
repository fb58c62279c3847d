"""The stream of a session, whatever is cut, killed and late: every event of every task, once and in its order."""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from tailplane.client import Client, Session, TaskFailed, Versioned
from tailplane.deploy.cluster import LocalCluster, Plan
from tests.proxy import Proxy, serving

from .conftest import WORKFLOWS

TASKS = 20
# What follows so many events in one stream is a cut, or another stream; and how many cuts there are.
STRETCH = 307
CUTS = 12

Seen = dict[str, list[tuple[int, object]]]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def assert_whole(seen: Seen, written: dict[str, int]) -> None:
    assert sorted(seen) == sorted(written)
    for task, events in seen.items():
        assert [seq for seq, _ in events] == list(range(1, written[task] + 4))
        assert [data for _, data in events[2:-1]] == list(range(written[task]))


async def follow(session: Session, proxy: Proxy, enough: Path) -> Seen:
    """Read with one stream, whose connections are cut; `enough` exists when they were cut often enough."""
    seen: Seen = defaultdict(list)
    count = 0
    async for item in session.events():
        seen[item.task_id].append((item.event.seq, item.event.data))
        count += 1
        if count % STRETCH == 0 and proxy.cuts < CUTS:
            # What it read ahead may bring it here before it is connected again.
            while not proxy.cut():
                await asyncio.sleep(0.01)
            if proxy.cuts == CUTS:
                enough.touch()
    return seen


async def follow_anew(session: Session) -> Seen:
    """Read with many streams: each goes on at the cursor of the one before."""
    seen: Seen = defaultdict(list)
    cursor, had_more = "start", True
    while had_more:
        stream, had_more = session.events(cursor), False
        async for item in stream:
            seen[item.task_id].append((item.event.seq, item.event.data))
            if sum(map(len, seen.values())) % STRETCH == 0:
                had_more = True
                break
        cursor = stream.cursor
        await stream.aclose()
    return seen


async def follow_as_others_do(url: str, session_id: str) -> Seen:
    """Read lines of JSON, go on at the cursor that they last told, and drop what comes again."""
    seen: Seen = defaultdict(list)
    last: dict[str, int] = defaultdict(int)
    cursor = "start"
    async with httpx2.AsyncClient(timeout=20) as http:
        while True:
            try:
                address = f"{url}/v1/sessions/{session_id}/events?from={quote(cursor)}"
                async with http.stream("GET", address, headers={"Accept": "application/x-ndjson"}) as answer:
                    if answer.status_code == 204:
                        return seen
                    async for line in answer.aiter_lines():
                        said = json.loads(line or "{}")
                        cursor = said.get("cursor", cursor)
                        if said.get("seq", 0) > last[said.get("task_id", "")]:
                            last[said["task_id"]] = said["seq"]
                            seen[said["task_id"]].append((said["seq"], said["data"]))
            except httpx2.TransportError:
                await asyncio.sleep(0.05)


async def test_cuts_and_a_killed_control_plane_lose_and_double_no_event_of_any_task(tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    plan = Plan(target=str(WORKFLOWS), control_planes=2, workers=2, concurrency=TASKS)
    cluster = await asyncio.to_thread(LocalCluster(plan).start)
    try:
        async with (
            serving(Proxy(*map(_port, cluster.urls))) as proxy,
            Client(f"http://127.0.0.1:{proxy.port}") as client,
            asyncio.timeout(120),
        ):
            async with client.start_session() as session:
                readers = [
                    asyncio.ensure_future(follow(session, proxy, enough)),
                    asyncio.ensure_future(follow_anew(session)),
                    asyncio.ensure_future(follow_as_others_do(f"http://127.0.0.1:{proxy.port}", session.session_id)),
                ]
                tasks = []
                for number in range(TASKS):
                    # They join while it is read, and write until it was cut often enough, however fast it is read.
                    given = {"n": 2, "path": str(tmp_path), "pause": 0.01 + number / 4000, "until": str(enough)}
                    tasks.append(await session.run_workflow("count_in_halves", given))
                await asyncio.to_thread(cluster.kill_control_plane)
                await asyncio.to_thread(cluster.restart_control_plane)
            found = await asyncio.gather(*readers)
            written = {task.task_id: await task.result() for task in tasks}
    finally:
        await asyncio.to_thread(cluster.stop)
    for seen in found:
        assert_whole(seen, written)


async def test_what_tasks_share_is_counted_and_how_far_they_are_is_told(client: Client) -> None:
    async with client.start_session() as session:
        tasks = [await session.run_workflow("tally", 10) for _ in range(5)]
        await asyncio.gather(*(task.result(timeout=60) for task in tasks))
        assert await session.state.get("tally") == Versioned(50, 50)
        assert await session.state.set("from-outside", [1], version=0) == 1
        assert sorted(await session.state.all()) == ["from-outside", "tally"]
        told = [event.data async for event in tasks[0].events() if event.type == "task.progress"]
        # Only the latest is sent, and the last one always is.
        assert told[-1] == {"done": 10, "total": 10, "text": "counting"}
        assert [item async for item in tasks[0].results()] == []


async def test_a_second_attempt_finds_what_the_first_has_set(client: Client) -> None:
    async with client.start_session() as session:
        task = await session.run_workflow("once")
        assert await task.result(timeout=60) == "done before"
        assert (await session.state.get("once")).value == task.task_id


async def test_a_task_without_a_session_shares_nothing(client: Client) -> None:
    task = await client.run_workflow("tally", 1)
    with pytest.raises(TaskFailed, match="belongs to no session"):
        await task.result(timeout=60)
