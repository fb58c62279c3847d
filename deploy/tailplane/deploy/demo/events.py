"""What the document analysis takes, says and returns: typed events, which the worker writes and the client reads back.

The client is given `EVENTS`, so that what arrives are these models again and not bare dicts.
"""

from pydantic import BaseModel, Field


class Job(BaseModel):
    """The workflow's input."""

    folder: str = Field(description="A folder, or one text file, on the worker's machine.")
    lanes: int = Field(4, ge=1, le=64, description="Files that are read at the same time.")
    pause_ms: float = Field(0, ge=0, description="Rest after each file, so that a person can watch.")
    max_files: int = Field(300, ge=1, description="Files beyond this number are left out, and counted.")


class Found(BaseModel):
    """The walk through the folder is over."""

    files: int
    size_bytes: int
    left_out: int


class FileAnalysed(BaseModel):
    """One file was read; `readability` is its LIX: 25 is a children's book, 60 a law."""

    path: str
    words: int
    sentences: int
    headings: int
    links: int
    readability: float


class FileSkipped(BaseModel):
    """One file could not be read as text."""

    path: str
    reason: str


class Totals(BaseModel):
    """Everything so far."""

    files: int = 0
    words: int = 0
    sentences: int = 0
    headings: int = 0
    links: int = 0
    readability: float = 0.0


class FrequentWords(BaseModel):
    """The most frequent words so far, most frequent first."""

    words: dict[str, int]


class LongSentence(BaseModel):
    """A sentence that is longer than all before it."""

    path: str
    words: int
    text: str


class Progress(BaseModel):
    """How far it is."""

    done: int
    total: int


class Report(BaseModel):
    """The workflow's result."""

    totals: Totals
    frequent_words: dict[str, int]
    longest_sentence: LongSentence | None
    easiest: FileAnalysed | None
    hardest: FileAnalysed | None
    skipped: list[FileSkipped]
    left_out: int


EVENTS: tuple[type[BaseModel], ...] = (
    Found,
    FileAnalysed,
    FileSkipped,
    Totals,
    FrequentWords,
    LongSentence,
    Progress,
)
