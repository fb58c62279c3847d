"""The ten examples: events and result as in process, wherever the worker dies."""

from typing import Any

import pytest
from workflows.events import StopEvent

from tailplane.protocol import codec
from tailplane.workers.engines.llama_messages import classes_of
from tailplane.workers.engines.llama_runtime import LedgerRuntime
from tailplane.workers.engines.llama_workflows import runtime_for
from tests.examples.llama_cases import CASES, Case, example
from tests.unit.workers.engines.pretend import PretendTask, shown


async def in_process(case: Case) -> tuple[list[Any], Any]:
    """Return events and result of a run without Tailplane."""
    workflow = example(case.name)
    runtime_for(workflow, LedgerRuntime)
    handler = workflow.run(**case.start)
    events = []
    async for event in handler.stream_events():
        if isinstance(event, StopEvent):
            break
        type_, data = shown(event)
        events.append((type_, data))
        if answer := case.answer(type_, data):
            handler.ctx.send_event(classes_of(workflow)[answer.type or ""].model_validate(answer.data))
    return events, plain(await handler)


def plain(result: Any) -> Any:
    return codec.dump_model(result) if isinstance(result, StopEvent) else result


async def on_a_task(case: Case, task: PretendTask) -> tuple[list[Any], Any]:
    workflow = example(case.name)
    task.answer = lambda type_, data: (answer := case.answer(type_, data)) and (answer.type, answer.data)
    result = await task.run(workflow, workflow.start_event_class(**case.start))
    return task.events, plain(result)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_example_does_what_it_does_in_process(case: Case) -> None:
    assert await on_a_task(case, PretendTask()) == await in_process(case)


@pytest.mark.parametrize("parks", [False, True], ids=["stays", "parks"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_wherever_the_worker_dies_it_is_as_in_process(case: Case, parks: bool) -> None:
    expected = await in_process(case)
    undisturbed = PretendTask(parks=parks)
    assert await on_a_task(case, undisturbed) == expected

    deaths = 0
    for point in range(undisturbed.points):
        task = PretendTask(parks=parks, dies_at=point)
        assert await on_a_task(case, task) == expected, point
        deaths += task.has_ever_died
    # Steps that run at once share entries, now more of them and now fewer.
    assert deaths >= undisturbed.points - 3
