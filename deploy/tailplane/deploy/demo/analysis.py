"""The workflow `analyse_folder`: several sub-tasks read files at the same time, and one stream tells of all of them.

It runs on any worker (`tailplane worker tailplane.deploy.demo.analysis`); the folder must be on that worker's machine.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tailplane.deploy.demo.documents import Documents, Unreadable, find_documents, read_text
from tailplane.deploy.demo.events import (
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
from tailplane.deploy.demo.prose import Analysis, analyse, readability
from tailplane.workers import Context, workflow

_MAX_QUOTE = 300
_TOTALS_EVERY = 5


@workflow(name="analyse_folder", input_model=Job)
async def analyse_folder(ctx: Context, job: Job) -> Report:
    """Analyse the text files of a folder."""
    documents = await asyncio.to_thread(find_documents, Path(job.folder), job.max_files)
    size = sum(path.stat().st_size for path in documents.paths)
    ctx.write_event_to_stream(Found(files=len(documents.paths), size_bytes=size, left_out=documents.left_out))
    tally = Tally(ctx, documents)
    todo = iter(documents.paths)
    async with asyncio.TaskGroup() as lanes:
        for _ in range(min(job.lanes, len(documents.paths))):
            lanes.create_task(_lane(todo, tally, job))
    return tally.report()


async def _lane(todo: Iterator[Path], tally: "Tally", job: Job) -> None:
    for path in todo:
        try:
            analysis = await asyncio.to_thread(_analyse_file, path)
        except Unreadable as error:
            tally.skip(path, str(error))
        else:
            tally.add(path, analysis)
        await asyncio.sleep(job.pause_ms / 1000 * job.lanes)


def _analyse_file(path: Path) -> Analysis:
    return analyse(read_text(path), path.suffix.lower())


@dataclass(slots=True)
class Tally:
    """Adds up what the lanes find, and says each finding at once."""

    ctx: Context
    documents: Documents
    totals: Totals = field(default_factory=Totals)
    long_words: int = 0
    frequencies: Counter[str] = field(default_factory=Counter)
    longest: LongSentence | None = None
    files: list[FileAnalysed] = field(default_factory=list)
    skipped: list[FileSkipped] = field(default_factory=list)

    def add(self, path: Path, found: Analysis) -> None:
        """Count a file that was read."""
        file = FileAnalysed(
            path=self._name(path),
            words=found.words,
            sentences=found.sentences,
            headings=found.headings,
            links=found.links,
            readability=found.readability,
        )
        self.files.append(file)
        self.ctx.write_event_to_stream(file)
        self._add_up(found)
        if found.longest_sentence_words > (self.longest.words if self.longest else 0):
            self.longest = LongSentence(
                path=file.path, words=found.longest_sentence_words, text=_quote(found.longest_sentence)
            )
            self.ctx.write_event_to_stream(self.longest)
        self._step()

    def skip(self, path: Path, reason: str) -> None:
        """Count a file that could not be read."""
        self.skipped.append(FileSkipped(path=self._name(path), reason=reason))
        self.ctx.write_event_to_stream(self.skipped[-1])
        self._step()

    def report(self) -> Report:
        """Return the result."""
        readable = sorted((file for file in self.files if file.words >= 50), key=lambda file: file.readability)
        return Report(
            totals=self.totals,
            frequent_words=dict(self.frequencies.most_common(12)),
            longest_sentence=self.longest,
            easiest=readable[0] if readable else None,
            hardest=readable[-1] if readable else None,
            skipped=self.skipped,
            left_out=self.documents.left_out,
        )

    def _add_up(self, found: Analysis) -> None:
        self.long_words += found.long_words
        self.frequencies.update(found.frequencies)
        words = self.totals.words + found.words
        sentences = self.totals.sentences + found.sentences
        self.totals = Totals(
            files=self.totals.files + 1,
            words=words,
            sentences=sentences,
            headings=self.totals.headings + found.headings,
            links=self.totals.links + found.links,
            readability=readability(words, sentences, self.long_words),
        )

    def _step(self) -> None:
        done, total = len(self.files) + len(self.skipped), len(self.documents.paths)
        if done % _TOTALS_EVERY == 0 or done == total:
            self.ctx.write_event_to_stream(self.totals)
            self.ctx.write_event_to_stream(FrequentWords(words=dict(self.frequencies.most_common(5))))
        self.ctx.write_event_to_stream(Progress(done=done, total=total))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.documents.root))


def _quote(sentence: str) -> str:
    if len(sentence) <= _MAX_QUOTE:
        return sentence
    # Between two words, unless the whole quote is one.
    words, _, _ = sentence[: _MAX_QUOTE + 1].rpartition(" ")
    return f"{words or sentence[:_MAX_QUOTE]} ..."
