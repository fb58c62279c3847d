"""Analyse a folder of text files: one task for each thing in it, all their streams merged into one progress.

    python examples/document_analysis/client.py docs

The workflow is the one that `tailplane demo` runs; `tailplane dev tailplane.deploy.demo.analysis` serves it. Each task
analyses one sub-folder (with all below it) or one file; they run at the same time, on as many workers as there are. The
folder must be on the workers' machine.
"""

import argparse
import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tailplane.client import Client, Session, TaskError
from tailplane.deploy.demo.documents import NoDocuments, find_documents
from tailplane.deploy.demo.events import EVENTS, FileAnalysed, FileSkipped, Found, Job, Report


@dataclass
class Board:
    """What all tasks together have found so far."""

    files: int = 0
    done: int = 0
    reports: dict[str, Report] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(f"[{self.done:>4}/{self.files:<4}] {text}", flush=True)


async def follow(session: Session, part: Path, pause_ms: float, board: Board) -> None:
    """Run the analysis of one part of the folder, and put what it says on the board."""
    job = Job(folder=str(part), pause_ms=pause_ms)
    task = await session.run_workflow("analyse_folder", job, metadata={"part": part.name})
    try:
        async for event in session.get_task_result_stream(task.task_id):
            match event:
                case Found(files=files):
                    board.files += files
                    board.say(f"{part.name}: {files} files")
                case FileAnalysed() as file:
                    board.done += 1
                    board.say(f"{part.name}: {file.path}: {file.words:,} words, readability {file.readability:g}")
                case FileSkipped(path=path, reason=reason):
                    board.done += 1
                    board.say(f"{part.name}: {path}: skipped, {reason}")
        board.reports[part.name] = Report.model_validate(await task.result())
    except TaskError as error:
        # The others go on.
        board.failed.append(part.name)
        board.say(f"{part.name}: failed: {error.detail}")


async def main(folder: Path, pause_ms: float) -> Board:
    documents = find_documents(folder, max_files=10_000)
    parts = sorted({documents.root / path.relative_to(documents.root).parts[0] for path in documents.paths})
    board = Board()
    async with (
        Client(event_models=EVENTS) as client,
        # Nobody waits for the rest if this script is stopped.
        client.start_session({"folder": str(folder)}, cancel_on_exit=True) as session,
        asyncio.TaskGroup() as followers,
    ):
        for part in parts:
            followers.create_task(follow(session, part, pause_ms, board))
    return board


def print_report(board: Board) -> None:
    words: Counter[str] = Counter()
    for report in board.reports.values():
        words.update(report.frequent_words)
    totals = [report.totals for report in board.reports.values()]
    sentences = [report.longest_sentence for report in board.reports.values() if report.longest_sentence]
    print(f"\n{sum(each.files for each in totals):,} files, {sum(each.words for each in totals):,} words")
    print("frequent words:", ", ".join(word for word, _ in words.most_common(10)))
    if sentences:
        longest = max(sentences, key=lambda sentence: sentence.words)
        print(f"longest sentence: {longest.words} words, in {longest.path}")


parser = argparse.ArgumentParser(description="Analyse the text files of a folder.")
parser.add_argument("folder", type=Path)
parser.add_argument("--pause", type=float, default=20, help="rest after each file, in ms, so that you can watch")
given = parser.parse_args()
try:
    found = asyncio.run(main(given.folder.resolve(), given.pause))
except NoDocuments as error:
    sys.exit(str(error))
print_report(found)
if found.failed:
    sys.exit(f"failed: {', '.join(found.failed)}")
