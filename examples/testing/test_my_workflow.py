"""Tests of workflows on real processes, by the pytest plugin that comes with Tailplane.

    pytest examples/testing

The plugin starts Valkey, a control plane and a worker once for all tests (about two seconds), and ends them.
"""

from pathlib import Path

import pytest

from tailplane.client import Client, InvalidInput, SyncClient, TaskFailed

# What the worker runs: a file, a module (`shop.flows`) or `module:attribute`.
pytestmark = pytest.mark.tailplane(str(Path(__file__).with_name("my_workflow.py")))


def test_each_count_is_told_and_the_total_is_the_result(tailplane_sync_client: SyncClient) -> None:
    task = tailplane_sync_client.run_workflow("count_words", ["one two", "three"])

    assert list(task.results()) == [{"text": "one two", "words": 2}, {"text": "three", "words": 1}]
    assert task.result(timeout=10) == {"total": 3}


def test_what_was_told_before_a_failure_stays_readable(tailplane_sync_client: SyncClient) -> None:
    task = tailplane_sync_client.run_workflow("count_words", ["one two", ""])
    told = task.results()

    assert next(told) == {"text": "one two", "words": 2}
    with pytest.raises(TaskFailed, match="an empty text has no words"):
        next(told)


def test_an_input_that_does_not_fit_is_refused(tailplane_sync_client: SyncClient) -> None:
    with pytest.raises(InvalidInput):
        tailplane_sync_client.run_workflow("count_words", "not a list")


# Async tests need anyio's plugin (this mark; it comes with Tailplane) or pytest-asyncio.
@pytest.mark.anyio
async def test_a_generator_streams_what_it_yields(tailplane_client: Client) -> None:
    async with tailplane_client as client, client.start_session() as session:
        task = await session.run_workflow("letters", "abc")

        assert [event async for event in session.get_task_result_stream(task.task_id)] == ["a", "b", "c"]
