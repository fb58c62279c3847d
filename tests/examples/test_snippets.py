"""The two snippets that the design begins with: word for word in the files, and live when they run."""

import ast
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailplane.client import Event, SyncClient
from tailplane.deploy.cluster import LocalCluster, Plan

WORKFLOW = """\
async def my_workflow(ctx, input_data):
    ctx.write_event_to_stream("processing started ...")
    for step in processing_steps:
        partial_result = process_step(step)          # may be slow, may never await: see 3.2
        ctx.write_event_to_stream(partial_result)
    final_result = final_processing()
    ctx.write_event_to_stream(final_result)
"""

CLIENT = """\
async with client.start_session() as session:
    task = await session.run_workflow("my_workflow", input_data)
    async for event in session.get_task_result_stream(task.task_id):
        print("live update:", event)
"""

# What a step takes: it blocks its worker's loop until the client has printed what was written before.
STEP = "time.sleep(0.3)"
UNTIL_SHOWN = """\

from pathlib import Path


class _Shown:
    steps = 0

    def wait(self):
        self.steps += 1
        while len(list(Path({folder!r}).iterdir())) < self.steps:
            time.sleep(0.01)


_shown = _Shown()
"""


def lines_like(snippet: str, path: Path) -> str:
    """Return the lines of a file from the one that the snippet begins with, as many as it has, moved to the left."""
    lines = path.read_text().splitlines(keepends=True)
    first = [line.strip() for line in lines].index(snippet.splitlines()[0])
    return textwrap.dedent("".join(lines[first : first + len(snippet.splitlines())]))


@pytest.mark.parametrize(("name", "snippet"), [("workflow.py", WORKFLOW), ("client.py", CLIENT)])
def test_the_file_holds_the_snippet_word_for_word(examples: Path, name: str, snippet: str) -> None:
    assert lines_like(snippet, examples / "snippets" / name) == snippet


def test_the_workflow_needs_nothing_but_the_three_names_that_it_uses(examples: Path) -> None:
    body = ast.parse((examples / "snippets/workflow.py").read_text()).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    values = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
    imports = {name.name for node in body if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names}

    assert functions | values == {"my_workflow", "processing_steps", "process_step", "final_processing"}
    assert imports == {"time"}


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """A folder with a file for each line that the client has printed."""
    folder = tmp_path / "shown"
    folder.mkdir()
    return folder


@pytest.fixture
def held(examples: Path, shown: Path, tmp_path: Path) -> Path:
    """The snippet's workflow, of which each step waits for the client."""
    text = (examples / "snippets/workflow.py").read_text()
    assert text.count(STEP) == 2
    target = tmp_path / "workflow.py"
    target.write_text(text.replace(STEP, "_shown.wait()") + UNTIL_SHOWN.format(folder=str(shown)))
    return target


@pytest.fixture
def cluster(request: pytest.FixtureRequest, examples: Path) -> Iterator[LocalCluster]:
    """Serves the snippet's workflow, or the one that a fixture named by the parameter gives, to whoever has a key."""
    target = request.getfixturevalue("held") if request.param == "held" else examples / "snippets/workflow.py"
    key = None if request.param == "nobody signs in" else request.getfixturevalue("api_key")
    with LocalCluster(Plan(target=str(target), api_key=key)) as running:
        yield running


def written_events(cluster: LocalCluster) -> list[Event]:
    """Return the newest task's events; each knows when it was written."""
    with SyncClient(cluster.url) as client:
        newest = next(iter(client.tasks(workflow="my_workflow")))
        return [event for event in client.task(newest.task_id).events() if event.kind == "workflow"]


def said_by(written: list[Event]) -> list[str]:
    assert [event.data for event in written] == [
        "processing started ...",
        "read: done",
        "clean: done",
        "count: done",
        "rank: done",
        "sum up: done",
        "final result",
    ]
    return [f"live update: {event.data}" for event in written]


@pytest.mark.process
@pytest.mark.parametrize("cluster", ["nobody signs in", "an API key is demanded"], indirect=True)
def test_the_snippets_run_as_they_stand(cluster: LocalCluster, start_script: Callable[..., Any]) -> None:
    with start_script("snippets/client.py") as script:
        arrived = list(script.lines())
        assert script.exit_code == 0, arrived
    written = written_events(cluster)

    assert [line for _, line in arrived] == said_by(written)
    # What is held back until more has come never arrives before the next is written, 0.3 s later.
    assert any(at < following.time for (at, _), following in zip(arrived, written[1:], strict=False))


@pytest.mark.process
@pytest.mark.parametrize("cluster", ["held"], indirect=True)
def test_each_event_reaches_the_client_before_the_next_is_written(
    cluster: LocalCluster, shown: Path, start_script: Callable[..., Any]
) -> None:
    arrived = []
    with start_script("snippets/client.py") as script:
        # What waits for more than its own being written never arrives.
        for _, line in script.lines():
            arrived.append(line)
            (shown / str(len(arrived))).touch()
        assert script.exit_code == 0, arrived
    assert arrived == said_by(written_events(cluster))
