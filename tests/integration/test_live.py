"""Events arrive while the workflow runs, once each and in order, through every door."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tailplane.client import Client, StreamGap, TaskGone
from tailplane.deploy.child import Child
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.ports import free_port

from .conftest import WORKFLOWS
from .workflows import Progress

MANY = 10_000


@pytest.fixture
async def unswept(cluster: LocalCluster, tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a control plane that nothing but bells tells what is written."""
    port = free_port()
    plane = Child(
        "unswept-control-plane",
        (sys.executable, "-P", str(Path(__file__).with_name("unswept_plane.py"))),
        output=tmp_path / "unswept.log",
        env={"TAILPLANE_REDIS_URL": cluster.redis_url, "TAILPLANE_PORT": str(port), "TAILPLANE_KEEP_ALIVE": "1s"},
    )
    plane.start()
    try:
        async with Client(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        plane.kill()


async def test_blocking_steps_arrive_one_by_one_by_their_bells_alone(unswept: Client, tmp_path: Path) -> None:
    task = await unswept.run_workflow("blocking_steps", {"steps": 5, "folder": str(tmp_path)})
    seen = []
    async with asyncio.timeout(60):
        async for event in task.events(include_platform=False):
            seen.append(event.data["step"])
            # Nothing more is written before this one has arrived.
            (tmp_path / str(event.data["step"])).touch()
    assert seen == list(range(5))


async def test_a_blocked_loop_delays_neither_lease_nor_events(tmp_path: Path) -> None:
    plan = Plan(target=str(WORKFLOWS), workers=1)
    with await asyncio.to_thread(LocalCluster(plan).start) as cluster:
        async with Client(cluster.url) as client:
            first = await client.run_workflow("count", {"n": 3, "pause": 60.0})
            stream = first.events(include_platform=False)
            assert (await anext(stream)).data == 0
            blocker = await client.run_workflow("block", 20.0)
            blocked = [event async for event in _until(blocker.events(), "about to block")]
            worker = (await client.workers())[0]
            # What the blocker wrote before it blocked has arrived; the lease is renewed all the while.
            until = time.monotonic() + 18
            while time.monotonic() < until:
                workers = await client.workers()
                assert [w.worker_id for w in workers] == [worker.worker_id]
                assert workers[0].lease_ms > 0
                await asyncio.sleep(0.5)
            last = [event async for event in blocker.events(start=str(blocked[-1].seq))]
            assert [e.data for e in last if e.kind == "workflow"] == ["blocked"]
            assert {e.attempt for e in last} == {1}
            assert (await first.status()).attempt == 1
            await first.cancel()
        log = "".join(path.read_text() for path in cluster.log_dir.iterdir() if "worker" in path.name)
    assert "blocks its loop" in log
    assert blocker.task_id in log


async def _until(events, data):
    async for event in events:
        yield event
        if event.data == data:
            return


async def test_our_client_gets_ten_thousand_events_in_order(client: Client) -> None:
    task = await client.run_workflow("count", {"n": MANY})
    events = [event async for event in task.events()]
    assert [event.seq for event in events] == list(range(1, MANY + 4))
    assert [event.data for event in events if event.kind == "workflow"] == list(range(MANY))
    assert [event.type for event in events if event.kind == "platform"] == [
        "task.queued",
        "task.started",
        "task.succeeded",
    ]
    assert await task.result() == MANY


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_curl_gets_ten_thousand_events_in_order(cluster: LocalCluster, client: Client, accept: str) -> None:
    task = await client.run_workflow("count", {"n": MANY})
    lines = await asyncio.to_thread(_fetch, f"{cluster.url}/v1/tasks/{task.task_id}/events", accept)
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith(("data: ", "{"))]
    assert [event["seq"] for event in events] == list(range(1, MANY + 4))
    assert [event["data"] for event in events if "kind" not in event] == list(range(MANY))
    if accept == "text/event-stream":
        ids = [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
        assert ids == list(range(1, MANY + 4))


def _fetch(url: str, accept: str) -> list[str]:
    if shutil.which("curl"):
        command = ["curl", "-sSN", "--max-time", "60", "-H", f"Accept: {accept}", url]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    with urlopen(Request(url, headers={"Accept": accept}), timeout=60) as answer:
        return [line.decode().rstrip("\n") for line in answer]


async def test_one_command_submits_and_streams(cluster: LocalCluster) -> None:
    def post() -> Iterator[str]:
        request = Request(
            f"{cluster.url}/v1/workflows/count/stream",
            data=b'{"n": 3}',
            headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
        )
        with urlopen(request, timeout=30) as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            assert answer.headers["Location"].startswith("/v1/tasks/t_")
            return [line.decode() for line in answer]

    lines = await asyncio.to_thread(post)
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["data"] for event in data if "kind" not in event] == [0, 1, 2]
    assert "event: task.succeeded\n" in lines


async def test_typed_events_come_back_as_their_models(cluster: LocalCluster) -> None:
    async with Client(cluster.url, event_models=[Progress]) as client, client.start_session() as session:
        task = await session.run_workflow("typed", 3)
        events = [event async for event in session.get_task_result_stream(task.task_id)]
    assert events == [Progress(done=done, total=3) for done in range(3)]


async def test_a_late_reader_gets_the_whole_stream(client: Client) -> None:
    task = await client.run_workflow("count", {"n": 100})
    await task.result()
    late = [event async for event in client.task(task.task_id).events()]
    assert [event.seq for event in late] == list(range(1, 104))


async def test_who_reads_along_misses_nothing_of_a_stream_that_keeps_its_end_and_who_is_late_is_told(
    client: Client,
) -> None:
    task = await client.run_workflow("last_words", 500)
    assert [item async for item in task.results()] == list(range(500))
    # Of another task: as long as somebody reads along, the control plane remembers more than the stream keeps.
    task = await client.run_workflow("last_words", 500)
    assert await task.result() == 500
    late = task.results()
    with pytest.raises(StreamGap) as caught:
        await anext(late)
    assert caught.value.last_seq == 0
    kept = [item async for item in late]
    assert 50 <= len(kept) < 80
    assert kept == list(range(500 - len(kept), 500))


async def test_two_readers_at_once_get_the_same(client: Client) -> None:
    task = await client.run_workflow("count", {"n": 200, "pause": 0.002})

    async def read() -> list[tuple[int, object]]:
        return [(event.seq, event.data) async for event in client.task(task.task_id).events()]

    one, other = await asyncio.gather(read(), read())
    assert one == other
    assert len(one) == 203


@pytest.mark.parametrize(
    ("start", "first"), [("start", 1), ("0", 1), ("5", 6), ("102", 103), ("-1", 103), ("-3", 101), ("-500", 1)]
)
async def test_a_reader_begins_where_it_asks(client: Client, start: str, first: int) -> None:
    task = await client.run_workflow("count", {"n": 100})
    await task.result()
    seqs = [event.seq async for event in task.events(start=start)]
    assert seqs == list(range(first, 104))


async def test_an_expired_stream_is_gone_with_a_reason() -> None:
    env = {"TAILPLANE_RETENTION": "0.2s"}
    with await asyncio.to_thread(LocalCluster(Plan(target=str(WORKFLOWS), env=env)).start) as cluster:
        async with Client(cluster.url) as client:
            task = await client.run_workflow("count", {"n": 1})
            with pytest.raises(TaskGone, match="is kept for"):
                while True:
                    await task.status()
                    await asyncio.sleep(0.05)
            with pytest.raises(TaskGone, match="is kept for"):
                [event async for event in task.events()]
