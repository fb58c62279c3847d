"""Runs the analysis on a cluster of its own and shows it to a person: the events as they arrive, then what came out."""

import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tailplane.client import Client, Task
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.live import LiveView, arrivals
from tailplane.deploy.cli.progress import describe, describe_count, describe_delay, describe_size
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.demo.events import (
    EVENTS,
    FileAnalysed,
    FileSkipped,
    Found,
    FrequentWords,
    Job,
    LongSentence,
    Progress,
    Report,
    Totals,
)
from tailplane.protocol.events import Event, Kind

TARGET = "tailplane.deploy.demo.analysis"
WORKERS = 2


@dataclass(slots=True)
class Delays:
    """Seconds from each write to its arrival."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle one; 0 if there is none."""
        return statistics.median(self.seconds) if self.seconds else 0.0

    @property
    def longest(self) -> float:
        """The longest; 0 if there is none."""
        return max(self.seconds, default=0.0)


def demo_cluster(work_dir: Path) -> LocalCluster:
    """Return the demo's cluster; it runs in `work_dir`, so that no file of the user's is taken for a module."""
    return LocalCluster(Plan(target=TARGET, workers=WORKERS, cwd=work_dir, drain=0.5))


async def show_analysis(url: str, job: Job) -> None:
    """Run the workflow through the control plane at `url` and print what arrives.

    Raises: what the client raises, TaskFailed above all.
    """
    delays = Delays()
    async with Client(url, api_key="", event_models=EVENTS) as client, client.start_session() as session:
        task: Task = await session.run_workflow("analyse_folder", job)
        terminal.say(f"task {task.task_id}; each line: number, delay from write to arrival, event\n")
        with LiveView(describe_finding) as view:
            async for event, arrived in arrivals(task.events()):
                view.show(event, arrived)
                if event.kind == Kind.WORKFLOW:
                    delays.seconds.append(arrived - event.time)
        report = Report.model_validate(await task.result())
    _print_report(report)
    _print_summary(report, delays)


def run_demo(job: Job) -> None:
    """Start the cluster, show the analysis, stop the cluster."""
    import asyncio

    with tempfile.TemporaryDirectory(prefix="tailplane-demo-") as work_dir:
        began = time.monotonic()
        with demo_cluster(Path(work_dir)) as cluster:
            took = time.monotonic() - began
            terminal.say(f"valkey, a control plane ({cluster.url}) and {WORKERS} workers are up after {took:.1f} s")
            asyncio.run(show_analysis(cluster.url, job))


def describe_finding(event: Event) -> str:
    """Return an event of the analysis in words."""
    match event.data:
        case Found(files=files, size_bytes=size, left_out=left_out):
            more = f"; {left_out:,} more {'is' if left_out == 1 else 'are'} left out" if left_out else ""
            return f"found {describe_count(files, 'file')} with {describe_size(size)}{more}"
        case FileAnalysed() as file:
            counts = (
                (file.words, "word"),
                (file.sentences, "sentence"),
                (file.headings, "heading"),
                (file.links, "link"),
            )
            text = ", ".join(describe_count(count, noun) for count, noun in counts)
            return f"{file.path}: {text}, readability {file.readability:g}"
        case FileSkipped(path=path, reason=reason):
            return f"{path}: skipped, {reason}"
        case Totals() as totals:
            files_read, words_read = describe_count(totals.files, "file"), describe_count(totals.words, "word")
            return f"so far {files_read}, {words_read}, readability {totals.readability:g}"
        case FrequentWords(words=words):
            return f"most frequent: {', '.join(f'{word} {count:,}' for word, count in words.items())}"
        case LongSentence() as sentence:
            return f"longest sentence so far: {describe_count(sentence.words, 'word')} in {sentence.path}"
        case Progress(done=done, total=total):
            return f"{done:,} of {total:,}"
        case _:
            return describe(event)


def _print_report(report: Report) -> None:
    terminal.say("")
    words = ", ".join(f"{word} ({count:,})" for word, count in report.frequent_words.items())
    _fact("frequent words", words or "none")
    if report.longest_sentence:
        sentence = report.longest_sentence
        _fact(
            "longest sentence",
            f"{describe_count(sentence.words, 'word')}, in {sentence.path}:\n{'':<20}{sentence.text}",
        )
    if report.easiest and report.hardest and report.easiest != report.hardest:
        _fact("easiest to read", f"{report.easiest.path} (LIX {report.easiest.readability:g})")
        _fact("hardest to read", f"{report.hardest.path} (LIX {report.hardest.readability:g})")
    if report.skipped:
        _fact("skipped", describe_count(len(report.skipped), "file"))
    if report.left_out:
        read = report.totals.files + len(report.skipped)
        _fact("left out", f"{describe_count(report.left_out, 'file')} beyond the first {read:,}")


def _fact(name: str, text: str) -> None:
    terminal.say(f"{name:<20}{terminal.printable(text)}")


def _print_summary(report: Report, delays: Delays) -> None:
    from rich.table import Table

    table = Table("files", "words", "events", "median delay", "max delay", title="\nlive from worker to client")
    table.add_row(
        f"{report.totals.files:,}",
        f"{report.totals.words:,}",
        f"{len(delays.seconds):,}",
        describe_delay(delays.median),
        describe_delay(delays.longest),
    )
    terminal.console().print(table)
