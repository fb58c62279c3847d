"""A bounded queue through the programs: the refusal over HTTP, in the client and on the command line."""

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from tailplane.client import Client, ClientOptions, QueueFull, Task
from tailplane.deploy.cluster import LocalCluster, Plan

from .conftest import WORKFLOWS

PATIENCE_S = 60


async def tailplane(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tailplane.deploy", *arguments],
        env=os.environ | {"TAILPLANE_URL": url},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


async def busy_with(client: Client, sign: Path) -> Task:
    """Return a task that keeps the only place of the only worker until `sign` exists."""
    task = await client.run_workflow("block_until", str(sign))
    async for event in task.events():
        if event.data == "about to block":
            break
    return task


async def test_a_full_queue_refuses_and_takes_again_when_it_has_room(tmp_path: Path) -> None:
    plan = Plan(target=str(WORKFLOWS), concurrency=1, env={"TAILPLANE_MAX_QUEUED": "2"})
    with await asyncio.to_thread(LocalCluster(plan).start) as cluster:
        impatient = ClientOptions(retry_for=timedelta(0))
        async with Client(cluster.url) as patient, Client(cluster.url, options=impatient) as client:
            busy = await busy_with(client, tmp_path / "sign")
            queued = [await client.run_workflow("echo", n) for n in range(2)]
            assert [task.position for task in queued] == [0, 1]

            with pytest.raises(QueueFull) as caught:
                await client.run_workflow("echo", 2)
            assert (caught.value.depth, caught.value.limit) == (2, 2)
            assert 1 <= caught.value.retry_after <= 30
            async with httpx2.AsyncClient(base_url=cluster.url, timeout=30) as http:
                answer = await http.post("/v1/tasks", json={"workflow": "echo"})
            assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
            assert 1 <= int(answer.headers["Retry-After"]) <= 30
            refused = await tailplane(cluster.url, "run", "echo", "2")
            assert (refused.returncode, refused.stdout) == (1, "")
            assert refused.stderr.startswith("error: 2 tasks of echo wait, and 2 are taken")
            assert len([task async for task in client.tasks(workflow="echo")]) == 2

            # An application's patience outlasts a queue that is full for a moment.
            coming = asyncio.ensure_future(patient.run_workflow("echo", 3))
            await asyncio.wait({coming}, timeout=0.5)
            assert not coming.done()
            (tmp_path / "sign").touch()
            task = await asyncio.wait_for(coming, PATIENCE_S)
            assert await task.result(timeout=PATIENCE_S) == 3
            assert [await each.result(timeout=PATIENCE_S) for each in queued] == [0, 1]
            assert await busy.result(timeout=PATIENCE_S) == "done"


async def test_who_waits_in_a_queue_is_told_the_position(tmp_path: Path) -> None:
    with await asyncio.to_thread(LocalCluster(Plan(target=str(WORKFLOWS), concurrency=1)).start) as cluster:
        async with Client(cluster.url) as client:
            await busy_with(client, tmp_path / "sign")
            await client.run_workflow("count", {"n": 1})
            started = await tailplane(cluster.url, "run", "count", '{"n": 1}')
            assert "1 task waited before it when it was queued\n" in started.stderr
            command = [sys.executable, "-m", "tailplane.deploy", "run", "count", '{"n": 1}', "--follow"]
            pipe = asyncio.subprocess.PIPE
            following = await asyncio.create_subprocess_exec(
                *command, env=os.environ | {"TAILPLANE_URL": cluster.url}, stdout=pipe, stderr=pipe
            )
            assert following.stderr is not None
            async with asyncio.timeout(PATIENCE_S):
                # It explains itself after two seconds, however long it took to start.
                explanation = "the task waits for a free place; 2 tasks waited before it when it was queued\n"
                while not (line := (await following.stderr.readline()).decode()).endswith(explanation):
                    assert line, "it has ended"
                (tmp_path / "sign").touch()
                said, errors = await following.communicate()
    assert following.returncode == 0, errors
    assert '"position": 2' in said.decode()
