"""Dead letters through the programs: a worker's failed task is listed, run again and dropped."""

import asyncio
import json
import os
import re
import subprocess
import sys

import httpx2
import pytest

from tailplane.client import Client, DeadLetter, DeadLetterNotFound, SyncClient, Task, TaskFailed
from tailplane.deploy.cluster import LocalCluster

PATIENCE_S = 60


async def tailplane(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tailplane.deploy", "dead-letters", *arguments],
        env=os.environ | {"TAILPLANE_URL": url},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


async def failed(client: Client) -> Task:
    task = await client.run_workflow("fail", 1, metadata={"user": "ada"})
    with pytest.raises(TaskFailed):
        await task.result(timeout=PATIENCE_S)
    return task


async def letter_of(client: Client, task: Task) -> DeadLetter:
    """Return the task's dead letter as soon as it is there; that is a moment after the task's end."""
    async with asyncio.timeout(10):
        while True:
            async for letter in client.dead_letters(workflow="fail"):
                if letter.task_id == task.task_id:
                    return letter
            await asyncio.sleep(0.02)


async def listed(client: Client) -> set[str]:
    return {letter.task_id async for letter in client.dead_letters()}


async def test_a_failed_task_is_run_again_by_the_client(cluster: LocalCluster, client: Client) -> None:
    task = await failed(client)
    letter = await letter_of(client, task)
    assert (letter.error.code, letter.error.message, letter.attempts) == ("workflow_error", "nothing there: ä", 1)
    assert (letter.error.type, letter.error.traceback) == ("builtins.LookupError", None)
    assert letter.metadata == {"user": "ada"}

    again = await client.requeue(task.task_id)

    assert again.task_id != task.task_id
    assert task.task_id not in await listed(client)
    events = [event async for event in again.events()]
    assert events[0].data["requeue_of"] == task.task_id
    assert [event.data for event in events if event.kind == "workflow"] == [0]
    assert (await again.status()).requeue_of == task.task_id
    assert (await client.requeue(task.task_id)).task_id == again.task_id
    assert (await letter_of(client, again)).requeue_of == task.task_id
    with SyncClient(cluster.url) as blocking:
        await asyncio.to_thread(blocking.drop_dead_letter, again.task_id)
    assert again.task_id not in await listed(client)
    with pytest.raises(DeadLetterNotFound):
        await client.requeue(again.task_id)


async def test_the_routes_answer(cluster: LocalCluster, client: Client) -> None:
    task = await failed(client)
    await letter_of(client, task)
    async with httpx2.AsyncClient(base_url=cluster.url, timeout=30) as http:
        page = (await http.get("/v1/dead-letters", params={"limit": 1})).json()
        assert [letter["task_id"] for letter in page["dead_letters"]] == [task.task_id]
        answer = await http.delete(f"/v1/dead-letters/{task.task_id}")
        assert answer.status_code == 204
        answer = await http.post(f"/v1/dead-letters/{task.task_id}/requeue")
        assert (answer.status_code, answer.json()["code"]) == (404, "dead_letter_not_found")


async def test_the_command_line_lists_requeues_and_drops(cluster: LocalCluster, client: Client) -> None:
    one, two, three = [await failed(client) for _ in range(3)]
    for task in (one, two, three):
        await letter_of(client, task)

    table = (await tailplane(cluster.url)).stdout
    assert re.search(rf"^{one.task_id} +fail +1 +\S+ \w+ ago +workflow_error: nothing there: ä *$", table, re.MULTILINE)
    document = json.loads((await tailplane(cluster.url, "--json", "--workflow", "fail")).stdout)
    assert {one.task_id, two.task_id} <= {letter["task_id"] for letter in document["dead_letters"]}
    assert json.loads((await tailplane(cluster.url, "list", "--json", "--limit", "1")).stdout)["has_more"]

    done = await tailplane(cluster.url, "requeue", one.task_id)
    assert done.returncode == 0, done.stderr
    match = re.fullmatch(rf"{one.task_id} is requeued as (t_\w+)\n", done.stdout)
    assert match
    again = client.task(match[1])
    await letter_of(client, again)
    done = await tailplane(cluster.url, "drop", again.task_id, two.task_id)
    assert done.stdout == f"{again.task_id} is dropped\n{two.task_id} is dropped\n"
    refused = await tailplane(cluster.url, "requeue", two.task_id)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"error: task {two.task_id} was dropped before\n"
    # What is wrong with one is no reason to leave out the others.
    fourth = await failed(client)
    await letter_of(client, fourth)
    done = await tailplane(cluster.url, "requeue", two.task_id, fourth.task_id)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{fourth.task_id} is requeued as ")
    assert done.stderr == f"error: task {two.task_id} was dropped before\n"
    await letter_of(client, client.task(done.stdout.split()[-1]))
    done = await tailplane(cluster.url, "drop", again.task_id.replace("t_", "x_"), done.stdout.split()[-1])
    assert (done.returncode, done.stdout.split()[1:]) == (1, ["is", "dropped"])

    assert (await tailplane(cluster.url, "requeue", "--all", "--workflow", "count")).stdout == ""
    done = await tailplane(cluster.url, "requeue", "--all", "--workflow", "fail", "--json")
    made = {line["requeue_of"]: line["task_id"] for line in map(json.loads, done.stdout.splitlines())}
    assert three.task_id in made
    # One that was requeued fails again, and is a letter of its own; those that were there are not.
    for task_id in made.values():
        await letter_of(client, client.task(task_id))
    assert not set(made) & await listed(client)
    for task_id in made.values():
        await client.drop_dead_letter(task_id)
