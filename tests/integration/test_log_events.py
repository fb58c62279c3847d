"""What a workflow logs, as readers of its stream see it."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailplane.client import Client, SyncClient
from tailplane.deploy.cluster import LocalCluster, Plan

WORKFLOWS = Path(__file__).with_name("observed_workflows.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target=str(WORKFLOWS))) as running:
        yield running


async def test_logs_are_the_platform_s_events_and_go_with_their_attempt(cluster: LocalCluster) -> None:
    async with Client(cluster.url) as client:
        task = await client.run_workflow("talkative")
        plain = [data async for data in client.get_task_result_stream(task.task_id)]
        events = [event async for event in task.events()]
        collected = await task.collect()

    assert (plain, collected) == ([1, 2], [2])
    logs = [event for event in events if event.type == "task.log"]
    assert [(event.attempt, event.data["message"]) for event in logs] == [
        (1, "attempt 1 begins"),
        (2, "attempt 2 begins"),
    ]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    before = {event.attempt: event.seq for event in logs}
    assert {event.attempt: event.seq - 1 for event in events if event.kind == "workflow"} == before
    # Standard error has its own level.
    assert "begins" not in (cluster.log_dir / "worker-1.log").read_text()


def test_an_event_source_can_tell_them_apart(cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("talkative")
    with urllib.request.urlopen(f"{cluster.url}/v1/tasks/{task.task_id}/events", timeout=30) as stream:
        assert stream.read().count(b"event: task.log\n") == 2


def test_a_terminal_shows_them_in_words(cluster: LocalCluster) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tailplane.deploy", "run", "talkative", "--follow"],
        env=os.environ | {"TAILPLANE_URL": cluster.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "debug shop.orders: attempt 2 begins" in done.stdout
