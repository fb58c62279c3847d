"""The branches of one attempt's code: who wrote which events, and which durable call is whose next.

The workflow's own body is the main branch. A step runs in a branch of its own, so does each of what `gather` runs at
once, and so does any other asyncio task that makes durable calls. Within a branch calls come one after the other: its
calls are numbered, and an id such as `2`, `3/0` or `4.1/0` tells the same call in every attempt.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tailplane.protocol.cursor import Cursor
from tailplane.protocol.ranges import Range, add, joined


class Branch:
    """One branch.

    Attributes:
        path: what the ids of its calls begin with.
        step: the name of the step that it belongs to; None: none. Its events bear it.
        next: the number of its next durable call.
        spawned: how many asyncio tasks have got a branch under this one.
        below: those branches, and those of its steps that were cancelled: it answers for their events, too.
        owner: the asyncio task that it is; None: any.
        runs: ranges of the events that it has written since its last durable call.
        is_replayed: what it writes now stands in the stream already, from an earlier attempt: it is not written again.
        waits_since: when it began to wait for a message, by its loop's clock; None: it does not.
        parts: the branches that it waits for: of its step, or of what it gathered.
        has_ended: whether its code has.
        is_over: whether an earlier attempt has gone on behind all that it does: none of it is written again.
    """

    __slots__ = (
        "below",
        "has_ended",
        "is_over",
        "is_replayed",
        "next",
        "owner",
        "parts",
        "path",
        "runs",
        "spawned",
        "step",
        "waits_since",
    )

    def __init__(self, path: str, step: str | None = None, owner: "asyncio.Task[object] | None" = None) -> None:
        self.path = path
        self.step = step
        self.owner = owner
        self.next = self.spawned = 0
        self.below: list[Branch] = []
        self.runs: list[Range] = []
        self.is_replayed = False
        self.waits_since: float | None = None
        self.parts: list[Branch] = []
        self.has_ended = self.is_over = False

    @property
    def next_id(self) -> str:
        """The id of its next durable call."""
        return f"{self.path}{self.next}"

    def note(self, seq: Cursor) -> None:
        """Note an event that it has written; with the emitter's lock held."""
        if self.runs and self.runs[-1][1] == seq - 1:
            self.runs[-1] = (self.runs[-1][0], seq)
        else:
            self.runs.append((seq, seq))

    def note_all(self, first: Cursor, last: Cursor) -> None:
        """Note events in a row, if there are any; likewise."""
        add(self.runs, first, last)

    @property
    def has_written(self) -> bool:
        """Whether `take_runs` would return anything."""
        return bool(self.runs) or any(branch.has_written for branch in self.below)

    def take_runs(self) -> list[Range]:
        """Return what it and those below it have written since their last durable calls, and let it be somebody else's;
        with the emitter's lock held.
        """
        runs, self.runs = self.runs, []
        if not self.below:
            return runs
        return joined([*runs, *(each for branch in self.below for each in branch.take_runs())])

    def waits(self) -> Iterator[float | None]:
        """Yield since when each part of it has been waiting; None for one that does something else."""
        if self.has_ended:
            return
        if self.waits_since is not None:
            yield self.waits_since
        elif self.parts:
            for part in self.parts:
                yield from part.waits()
        else:
            yield None


# The branch whose code runs; None: the main one, or code that knows of none, such as a thread of the author's.
CURRENT: ContextVar[Branch | None] = ContextVar("tailplane branch", default=None)


@contextmanager
def running(branch: Branch) -> Iterator[None]:
    """Let the code of a block be a branch."""
    before = CURRENT.get()
    CURRENT.set(branch)
    try:
        yield
    finally:
        branch.has_ended = True
        # Not by its token: code that nobody awaits any more is closed in another context.
        CURRENT.set(before)
