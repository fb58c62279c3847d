"""Ten workflows of llama-index-workflows on a cluster of two workers: as in process, also where a worker is killed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from workflows.events import StopEvent

from tailplane.client import SyncClient, SyncTask, TaskCancelled
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol import codec
from tailplane.workers.engines.llama_messages import classes_of

from .llama_cases import CASES, EXAMPLES, Case, example

#: Seconds after which a test has failed; none that passes comes near it.
DEADLINE = 60

Typed = tuple[str | None, Any]


async def in_process(case: Case) -> tuple[list[Typed], Any]:
    """Return events and result of a run without Tailplane."""
    workflow = example(case.name)
    handler = workflow.run(**case.start)
    events: list[Typed] = []
    async for event in handler.stream_events():
        if isinstance(event, StopEvent):
            break
        type_, data = type(event).__name__, codec.dump_model(event)
        events.append((type_, data))
        if answer := case.answer(type_, data):
            handler.ctx.send_event(classes_of(workflow)[answer.type or ""].model_validate(answer.data))
    result = await handler
    return events, codec.dump_model(result) if isinstance(result, StopEvent) else result


class Notes:
    """What the workers' steps have noted, and where they wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self, flow: str) -> Counter[str]:
        path = self.folder / "steps"
        lines = path.read_text().split() if path.exists() else []
        return Counter(line.partition(".")[2] for line in lines if line.startswith(f"{flow}."))

    def hold(self, step: str) -> None:
        (self.folder / step).touch()

    def release(self, step: str) -> None:
        (self.folder / step).unlink()


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Notes:
    return Notes(tmp_path_factory.mktemp("notes"))


@pytest.fixture(scope="module")
def cluster(notes: Notes, api_key: str) -> Iterator[LocalCluster]:
    env = {"LLAMA_EXAMPLES": str(EXAMPLES), "LLAMA_NOTES": str(notes.folder), "TAILPLANE_PARK_AFTER": "200ms"}
    target = str(Path(__file__).with_name("noted_flows.py"))
    with LocalCluster(Plan(target=target, workers=2, env=env, api_key=api_key)) as running:
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[SyncClient]:
    with SyncClient(cluster.url) as client:
        yield client


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def standing(task: SyncTask, case: Case | None = None) -> list[Typed]:
    """Follow a task to its end, answering; return the workflow's events that no rewind takes back."""
    events = []
    for event in task.events():
        if event.type == "task.rewind":
            gone = [(event.data["to"] + 1, event.seq), *event.data.get("also", ())]
            events = [each for each in events if not any(first <= each.seq <= last for first, last in gone)]
        if event.kind == "workflow":
            events.append(event)
            if case and (answer := case.answer(event.type or "", event.data)):
                task.send_event(answer.data, type=answer.type)
    return [(event.type, event.data) for event in events]


@pytest.mark.process
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_workflow_does_on_a_cluster_what_it_does_in_process(client: SyncClient, case: Case) -> None:
    task = client.run_workflow(case.name, case.start)
    assert (standing(task, case), task.result(DEADLINE)) == await in_process(case)


@pytest.mark.process
def test_events_are_objects_of_their_classes_where_the_client_knows_them(cluster: LocalCluster) -> None:
    example("joke"), example("introduction")
    from introduction import Progress  # type: ignore[import-not-found]
    from joke import Token  # type: ignore[import-not-found]
    from workflows.events import HumanResponseEvent, InputRequiredEvent

    with SyncClient(cluster.url, event_models=[Token, Progress, InputRequiredEvent]) as client:
        task = client.run_workflow("joke", {"topic": "tea"})
        texts = [event.text for event in client.get_task_result_stream(task.task_id) if isinstance(event, Token)]
        assert " ".join(texts[:8]) == "You said: a joke about tea. Very funny!"

        task = client.run_workflow("introduction", {})
        seen = []
        for event in client.get_task_result_stream(task.task_id):
            seen.append(type(event))
            if isinstance(event, InputRequiredEvent):
                # Fields that its class does not declare.
                assert event.prefix == "What is your name? "
                task.send_event(HumanResponseEvent(response="Ada"))
        assert seen == [Progress, InputRequiredEvent, Progress]
        assert task.result(DEADLINE) == "Hello Ada!"


@pytest.mark.process
@pytest.mark.parametrize("when", ["running", "waiting"])
def test_a_workflow_can_be_cancelled(client: SyncClient, notes: Notes, when: str) -> None:
    hold = f"introduction.ask.{notes.steps('introduction')['ask'] + 1}"
    if when == "running":
        notes.hold(hold)
    task = client.run_workflow("introduction", {})
    until(lambda: task.status().state == when)
    task.cancel()
    with pytest.raises(TaskCancelled):
        task.result(DEADLINE)
    if when == "running":
        notes.release(hold)


def restart_all(cluster: LocalCluster) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(cluster.restart_worker, range(len(cluster.workers))))


@pytest.mark.process
async def test_what_killed_workers_held_goes_on_where_it_was(
    client: SyncClient, cluster: LocalCluster, notes: Notes
) -> None:
    """A loop in its middle, a fan-out with one item left, a human who has answered and one who has not."""
    cases = {case.name: case for case in CASES}
    before = {name: notes.steps(name) for name in cases}

    def begun(flow: str, step: str) -> int:
        return notes.steps(flow)[step] - before[flow][step]

    items = len(cases["fan_out"].start["text"].split())
    holds = [
        f"refine.criticise.{before['refine']['criticise'] + 3}",
        f"fan_out.count.{before['fan_out']['count'] + 2}",
        f"introduction.greet.{before['introduction']['greet'] + 1}",
    ]
    for hold in holds:
        notes.hold(hold)
    names = ("refine", "fan_out", "introduction", "introduction")
    loop, fan_out, answered, asked = [client.run_workflow(name, cases[name].start) for name in names]
    until(lambda: begun("refine", "criticise") == 3)
    # All others of its items have ended and been joined, and each end of a step has been remembered.
    remembered = (event for event in fan_out.events() if event.type == "task.checkpoint")
    for _ in range(1 + 2 * (items - 1)):
        next(remembered)
    until(lambda: answered.status().state == asked.status().state == "waiting")
    answered.send_event({"response": "Ada"}, type="HumanResponseEvent")
    until(lambda: begun("introduction", "greet") == 1)

    for index in range(len(cluster.workers)):
        cluster.kill_worker(index)
    for hold in holds:
        notes.release(hold)
    restart_all(cluster)
    until(lambda: answered.status().state == "succeeded")
    # It was nobody's when they died.
    assert asked.status().state == "waiting"
    asked.send_event({"response": "Ada"}, type="HumanResponseEvent")

    for name, task in zip(names, (loop, fan_out, answered, asked), strict=True):
        assert (standing(task), task.result(DEADLINE)) == await in_process(cases[name]), name
    # What was cut off runs again, and nothing else does.
    assert notes.steps("refine") - before["refine"] == Counter(write=4, criticise=4 + 1)
    assert notes.steps("fan_out") - before["fan_out"] == Counter(split=1, count=items + 1, join=items)
    assert notes.steps("introduction") - before["introduction"] == Counter(ask=2, greet=2 + 1)


@pytest.mark.process
def test_a_graph_of_langgraph_speaks_asks_and_goes_on_with_the_answer(client: SyncClient) -> None:
    task = client.run_workflow("assistant", {"topic": "Tea", "messages": [], "sections": []})
    said: list[Typed] = []
    published = []
    for event in task.events():
        if event.channel == "messages":
            said.append((event.type, event.data["content"]))
        elif event.channel == "interrupt":
            assert event.data["value"] == {"draft": "Tea is a topic"}
            task.send_event("A fine one")
        elif event.channel == "custom":
            published.append((event.data["published"], event.data["text"]))

    # What the model says, word by word, and what a node returns.
    words = [("AIMessageChunk", text) for text in ("Tea", " ", "is", " ", "a", " ", "topic")]
    assert said == [*words, ("HumanMessage", "A fine one")]
    assert published == [(1, "Tea is a topic"), (2, "A fine one")]
    assert task.result(DEADLINE)["sections"] == ["Tea is a topic", "A fine one"]
