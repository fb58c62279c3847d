"""Workflows of other libraries are found, named and described; neither library is imported for anybody else."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflows import Workflow, step
from workflows.context.serializers import PickleSerializer
from workflows.events import StartEvent, StopEvent
from workflows.plugins import basic
from workflows.plugins.basic import BasicRuntime

from tailplane.protocol.errors import InvalidInput, WorkflowChanged
from tailplane.workers import TargetNotFound, load_target
from tailplane.workers.engines import EngineTimeout, EngineUnfit, engine_of
from tailplane.workers.engines.llama_workflows import check_version, serve
from tests.examples.llama_cases import CASES, EXAMPLES

pytestmark = pytest.mark.usefixtures("clean_imports")

FLOWS = """
    from typing import TypedDict

    from langgraph.graph import START, StateGraph
    from workflows import Context, Workflow, step
    from workflows.events import StartEvent, StopEvent

    class Begin(StartEvent):
        topic: str
        depth: int = 1

    class Flow(Workflow):
        '''Go into a topic.

        Slowly.
        '''

        @step
        async def go(self, ctx: Context, ev: Begin) -> StopEvent:
            return StopEvent()

    @step(workflow=Flow)
    async def free(ctx: Context, ev: Begin) -> StopEvent:
        return StopEvent()

    class State(TypedDict):
        x: int

    flow = Flow()
    other = Flow(workflow_name="my flow")
    _hidden = Flow()
    builder = StateGraph(State)
    builder.add_node("a", lambda state: state)
    builder.add_edge(START, "a")
    graph = builder.compile()
    some = [flow, Flow()]
"""


@pytest.fixture
def flows(tmp_path: Path) -> str:
    (tmp_path / "their_flows.py").write_text(textwrap.dedent(FLOWS))
    return "their_flows.py"


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("their_flows.py", ["flow", "my-flow", "graph"]),
        ("their_flows", ["flow", "my-flow", "graph"]),
        ("their_flows:flow", ["flow"]),
        ("their_flows.py:graph", ["graph"]),
        ("their_flows:some", ["flow", "Flow"]),
    ],
)
def test_what_a_module_has_is_found_by_its_names(flows: str, target: str, names: list[str]) -> None:
    assert [workflow.name for workflow in load_target(target)] == names


def test_a_workflow_is_described_by_its_start_event(flows: str) -> None:
    (workflow,) = load_target("their_flows:flow")
    record = workflow.record()
    assert record.description == "Go into a topic."
    assert record.input_schema["required"] == ["topic"]
    assert not record.input_optional
    with pytest.raises(InvalidInput, match="topic: Field required"):
        workflow.bind(None, {})


def test_an_input_is_optional_where_the_start_event_needs_nothing() -> None:
    assert serve(Short(), None).record().input_optional


def test_the_examples_are_served() -> None:
    assert [workflow.name for workflow in load_target(f"{EXAMPLES}/flows.py")] == [case.name for case in CASES]


class Short(Workflow):
    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


def test_a_class_is_no_workflow(flows: str) -> None:
    with pytest.raises(TargetNotFound) as caught:
        load_target("their_flows:Flow")
    assert caught.value.hint == "name an instance of it"
    assert engine_of(Short) is None
    assert engine_of(Short()) == "llama-index-workflows"


@pytest.mark.parametrize("version", ["2.25.9", "2.27.0", "3.0.0", "1.0"])
def test_a_version_that_was_not_tried_is_refused(version: str) -> None:
    with pytest.raises(EngineUnfit, match=r"llama-index-workflows>=2\.26,<2\.27 is needed"):
        check_version(version)


def test_a_journal_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(self: object, workflow: object, journal: object) -> None: ...

    monkeypatch.setattr(basic.BasicRuntime, "restore", restore)
    with pytest.raises(EngineUnfit, match=r"is not that of 2\.26"):
        serve(Short(), None)


class OwnRuntime(BasicRuntime):
    pass


def ran() -> Workflow:
    flow = Short()
    flow._runtime_locked = True
    return flow


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Short(serializer=PickleSerializer()), "never pickle"),
        (ran, "has run already"),
        (lambda: Short(workflow_name="1st"), "is not a workflow name"),
    ],
    ids=["pickle", "ran", "name"],
)
def test_what_can_not_be_served_says_why(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(EngineUnfit, match=told):
        serve(make(), None)


@pytest.mark.parametrize(("kind", "code"), [(EngineTimeout, "timeout"), (WorkflowChanged, "workflow_changed")])
def test_what_engines_raise_has_its_code(kind: type[Exception], code: str) -> None:
    from tailplane.workers.descriptions import describe

    assert describe(kind("x"))["code"] == code


def test_neither_library_is_imported_for_other_workflows(tmp_path: Path) -> None:
    (tmp_path / "own_flows.py").write_text("async def flow(ctx): ...")
    code = """
        import sys
        from tailplane.workers import TargetNotFound, load_target, run_worker
        assert [workflow.name for workflow in load_target("own_flows.py")] == ["flow"]
        print([name for name in ("workflows", "langgraph", "langchain_core") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr
