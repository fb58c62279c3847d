"""Every task has exactly one end, and its readers are told which."""

import asyncio
import statistics
import time
from pathlib import Path

import pytest

from tailplane.client import Client, Rewind, TaskCancelled, TaskFailed
from tailplane.deploy.cluster import LocalCluster, Plan

from .conftest import WORKFLOWS

# How often what must take no longer than so long is measured. The median counts: two of five may meet a machine that
# stands still, and what is slow by itself makes more so.
TRIES = 5


async def test_what_a_workflow_raises_is_raised_by_the_loop(client: Client) -> None:
    task = await client.run_workflow("fail", 2)
    seen = []
    with pytest.raises(TaskFailed) as caught:
        async for event in client.get_task_result_stream(task.task_id):
            seen.append(event)
    assert seen == [0, 1]
    assert caught.value.error_type == "builtins.LookupError"
    assert caught.value.message == "nothing there: ä"
    assert "raise LookupError" in caught.value.remote_traceback
    assert "workflows.py" in caught.value.remote_traceback


async def test_the_result_of_a_failed_task_is_an_answer(cluster: LocalCluster, client: Client) -> None:
    import httpx2

    task = await client.run_workflow("fail", 0)
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{cluster.url}/v1/tasks/{task.task_id}/result?wait=20", timeout=30)
    assert answer.status_code == 200
    assert answer.json()["state"] == "failed"
    assert answer.json()["error"]["message"] == "nothing there: ä"
    with pytest.raises(TaskFailed):
        await task.result()


async def test_a_queued_task_is_cancelled_at_once() -> None:
    plan, took, cancelled = Plan(target=str(WORKFLOWS), concurrency=1), list[float](), []
    with await asyncio.to_thread(LocalCluster(plan).start) as cluster:
        async with Client(cluster.url) as client:
            running = await client.run_workflow("tick", 0.05)
            async for event in running.events():
                if event.data == 0:
                    break
            for _ in range(TRIES):
                queued = await client.run_workflow("count", {"n": 1})
                begun = time.monotonic()
                await queued.cancel("changed my mind")
                took.append(time.monotonic() - begun)
                with pytest.raises(TaskCancelled, match="changed my mind"):
                    [event async for event in client.get_task_result_stream(queued.task_id)]
                cancelled.append(queued)
            await running.cancel()
            # The slot is free again, and what was cancelled never runs.
            after = await client.run_workflow("count", {"n": 1})
            assert await after.result(timeout=20) == 1
            assert [(await queued.status()).attempt for queued in cancelled] == [0] * TRIES
    assert statistics.median(took) < 1, took


async def test_a_running_task_is_cancelled_within_a_second(client: Client) -> None:
    took = []
    for _ in range(TRIES):
        task = await client.run_workflow("tick", 0.01)
        seen = []
        with pytest.raises(TaskCancelled):
            async for event in client.get_task_result_stream(task.task_id):
                seen.append(event)
                if event == 5:
                    begun = time.monotonic()
                    await task.cancel()
                    took.append(time.monotonic() - begun)
        assert seen == list(range(len(seen)))
        # What was written before stays readable.
        again = [event async for event in task.events()]
        assert [e.data for e in again if e.kind == "workflow"] == seen
        assert again[-1].type == "task.cancelled"
    assert statistics.median(took) < 1, took


async def test_blocking_code_is_fenced_off_when_cancelled(tmp_path: Path) -> None:
    took = []
    with await asyncio.to_thread(LocalCluster(Plan(target=str(WORKFLOWS))).start) as cluster:
        async with Client(cluster.url) as client:
            for number in range(TRIES):
                sign = tmp_path / f"sign-{number}"
                task = await client.run_workflow("block_until", str(sign))
                events = task.events()
                async for event in events:
                    if event.data == "about to block":
                        break
                begun = time.monotonic()
                await task.cancel()
                took.append(time.monotonic() - begun)
                with pytest.raises(TaskCancelled):
                    [event async for event in client.get_task_result_stream(task.task_id)]
                sign.touch()
                async with asyncio.timeout(20):
                    while not (verdict := sign.read_text()):
                        await asyncio.sleep(0.02)
                assert verdict == "TaskLost"
                whole = [event async for event in task.events()]
                assert [e.data for e in whole if e.kind == "workflow"] == ["about to block"]
                assert whole[-1].type == "task.cancelled"
                # The worker is free for others again.
                assert await (await client.run_workflow("count", {"n": 2})).result(timeout=20) == 2
    assert statistics.median(took) < 1.5, took


async def test_a_timeout_fails_the_task(client: Client) -> None:
    task = await client.run_workflow("too_slow")
    with pytest.raises(TaskFailed) as caught:
        await task.result(timeout=20)
    assert caught.value.error_code == "timeout"


async def test_retries_go_on_in_the_same_stream(client: Client) -> None:
    task = await client.run_workflow("third_time_lucky")
    events = [event async for event in task.events()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [(e.attempt, e.data) for e in events if e.kind == "workflow"] == [
        (1, "attempt 1"),
        (2, "attempt 2"),
        (3, "attempt 3"),
    ]
    assert [e.type for e in events if e.kind == "platform"].count("task.retrying") == 2
    assert await task.result() == 3
    assert (await task.status()).superseded == [(1, events[-3].seq - 2)]
    assert await task.collect() == ["attempt 3"]
    assert await task.text() == "attempt 3"
    assert [each async for each in task.results(on_rewind="drop")] == ["attempt 3"]
    noticed = [each async for each in task.results(on_rewind="notice")]
    assert [each.attempt for each in noticed if isinstance(each, Rewind)] == [2, 3]


@pytest.mark.parametrize(
    ("workflow", "code"),
    [("write_nonsense", "unserialisable"), ("return_nonsense", "unserialisable"), ("write_huge", "too_large")],
)
async def test_what_cannot_be_sent_fails_the_task_by_name(client: Client, workflow: str, code: str) -> None:
    task = await client.run_workflow(workflow)
    with pytest.raises(TaskFailed) as caught:
        await task.result(timeout=20)
    assert caught.value.error_code == code
    # The worker goes on.
    assert await (await client.run_workflow("count", {"n": 1})).result(timeout=20) == 1


async def test_a_workflow_that_exits_does_not_take_its_worker_along(cluster: LocalCluster, client: Client) -> None:
    before = cluster.workers[0].pid
    task = await client.run_workflow("leave")
    with pytest.raises(TaskFailed) as caught:
        await task.result(timeout=20)
    assert caught.value.error_type == "builtins.SystemExit"
    assert await (await client.run_workflow("count", {"n": 1})).result(timeout=20) == 1
    assert cluster.workers[0].pid == before


@pytest.mark.parametrize("workflow", ["child_leaves", "stop_loop"])
async def test_a_workflow_that_ends_the_loop_does_not_end_its_worker(
    cluster: LocalCluster, client: Client, workflow: str
) -> None:
    before = cluster.workers[0].pid
    task = await client.run_workflow(workflow)
    assert (await task.status()).task_id == task.task_id
    assert await (await client.run_workflow("count", {"n": 1})).result(timeout=20) == 1
    await task.cancel()
    assert cluster.workers[0].pid == before
    assert cluster.workers[0].is_running
