"""Several tasks in one session, followed at the same time, over real text files."""

import shutil
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tailplane.client import SyncClient
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.demo.prose import analyse

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "document_analysis/client.py"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target="tailplane.deploy.demo.analysis", workers=2)) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sub-folders and a file, all of this repository's own texts, and one file that is no text."""
    folder = tmp_path / "texts"
    for part in ("client", "workers"):
        (folder / part).mkdir(parents=True)
        for path in (ROOT / part / "tailplane" / part).glob("*.py"):
            shutil.copy(path, folder / part)
    shutil.copy(ROOT / "PROTOCOL.md", folder)
    (folder / "client" / "binary.txt").write_bytes(b"\0\1")
    return folder


def test_all_parts_are_analysed_at_the_same_time_and_summed_up(run_script: Callable[..., Any], folder: Path) -> None:
    texts = [path for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".md")]
    words = {path: analyse(path.read_text(), path.suffix).words for path in texts}

    done = run_script(SCRIPT, str(folder), "--pause", "20")

    assert done.returncode == 0, done.stdout + done.stderr
    progress = [line for line in done.stdout.splitlines() if line.startswith("[")]
    for path, count in words.items():
        part = path.relative_to(folder).parts[0]
        (line,) = (line for line in progress if f" {part}: {path.name}: " in line)
        assert f": {count:,} words, " in line
    assert any("client: binary.txt: skipped, binary" in line for line in progress)
    assert progress[-1].startswith(f"[{len(texts) + 1:>4}/{len(texts) + 1:<4}]")
    assert f"\n{len(texts):,} files, {sum(words.values()):,} words\n" in done.stdout
    # Neither sub-folder waits for the other: their lines alternate.
    parts = [line.split("] ")[1].partition(":")[0] for line in progress]
    turns = [part for part, _ in groupby(part for part in parts if part in ("client", "workers"))]
    assert len(turns) > 4, progress


def test_a_part_that_does_not_succeed_is_told_and_the_others_go_on(
    start_script: Callable[..., Any], cluster: LocalCluster, folder: Path
) -> None:
    with start_script(SCRIPT, str(folder), "--pause", "100") as script, SyncClient(cluster.url) as client:
        for _, line in script.lines():
            if "] client: " in line:
                break
        running = client.tasks(workflow="analyse_folder")
        victim = next(task for task in running if task.metadata == {"part": "client"})
        client.task(victim.task_id).cancel("not this one")
        rest = [line for _, line in script.lines()]
        assert script.exit_code == 1

    assert any("client: failed: " in line and "not this one" in line for line in rest), rest
    assert rest[-1] == "failed: client"
    assert any(line.endswith(" words") and " files, " in line for line in rest)


def test_a_folder_without_texts_is_told_in_one_line(run_script: Callable[..., Any], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    done = run_script(SCRIPT, str(empty))

    assert done.returncode == 1
    assert done.stderr == f"there are no text files in {empty}: it is empty\n"
