"""Commits of one attempt: fields that its task's record gets together with an event of its stream. No I/O, no lock."""

import asyncio
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TailplaneError

Fields = list[bytes | str]
# Told that Redis has taken a commit, or why it won't.
Done = Callable[[TailplaneError | None], None]

# Fields and values of the record that one entry brings along at the most, unless its first commit alone has more: Lua
# passes on some 8,000 at once, and the last entry of an attempt brings those of its end, too.
_MOST_FIELDS = 2000


class Commit(NamedTuple):
    """Fields of the record that go with the event `seq`."""

    seq: Cursor
    fields: Fields
    done: Done | None


class Commits:
    """Those that wait, in the order of their events, and those that are in flight. With the emitter's lock held."""

    __slots__ = ("_in_flight", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Commit] = []
        self._in_flight: list[Commit] = []

    def add(self, seq: Cursor, fields: Fields, done: Done | None) -> None:
        """Let fields go with an event."""
        self._waiting.append(Commit(seq, fields, done))

    def most_events(self, after: Cursor, most_bytes: int) -> int:
        """Return how many events behind `after` one entry may have for what it brings along."""
        sizes: dict[bytes | str, int] = {}
        size = 0
        for commit in self._waiting:
            for name, value in pairs_of(commit.fields):
                # Each field once, as `fields_of` has it.
                size += len(name) + len(value) - sizes.get(name, 0)
                sizes[name] = len(name) + len(value)
            if (2 * len(sizes) > _MOST_FIELDS or size > most_bytes) and commit is not self._waiting[0]:
                return commit.seq - 1 - after
        return sys.maxsize

    def take(self, up_to: Cursor) -> Sequence[bytes | str]:
        """Return the fields that go with the events up to a seq: they are in flight."""
        if not self._waiting:
            return ()
        count = bisect_right(self._waiting, up_to, key=lambda each: each.seq)
        self._in_flight, self._waiting = self._waiting[:count], self._waiting[count:]
        return fields_of(self._in_flight)

    def taken(self) -> list[Commit]:
        """Return those that were in flight, for Redis has taken them."""
        taken, self._in_flight = self._in_flight, []
        return taken

    def drop(self) -> list[Commit]:
        """Return all there are, and keep none."""
        dropped, self._in_flight, self._waiting = [*self._in_flight, *self._waiting], [], []
        return dropped


def fields_of(commits: Sequence[Commit]) -> Fields:
    """Return the fields of commits, each once: where two have the same field, the later one counts."""
    merged: dict[bytes | str, bytes | str] = {}
    for each in commits:
        merged.update(pairs_of(each.fields))
    return [item for pair in merged.items() for item in pair]


def pairs_of(fields: Fields) -> Iterator[tuple[bytes | str, bytes | str]]:
    """Yield fields with their values."""
    return zip(fields[::2], fields[1::2], strict=True)


def tell(commits: Sequence[Commit], reason: TailplaneError | None) -> None:
    """Tell those who wait for commits that Redis has taken them, or why it won't. Without the lock."""
    for commit in commits:
        if commit.done is not None:
            commit.done(reason)


def future_of_commit() -> tuple[asyncio.Future[None], Done]:
    """Return a future of the running loop, and what a commit tells from another thread: that settles it."""
    loop = asyncio.get_running_loop()
    taken: asyncio.Future[None] = loop.create_future()

    def settle(refusal: TailplaneError | None) -> None:
        if taken.done():
            return
        if refusal is None:
            taken.set_result(None)
        else:
            taken.set_exception(refusal)
            # Looked at: nobody may wait for it any more.
            taken.exception()

    return taken, lambda refusal: _call_on(loop, settle, refusal)


def _call_on(loop: asyncio.AbstractEventLoop, call: Callable[..., object], argument: object) -> None:
    # The loop may have ended with the worker: then nobody waits any more.
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, argument)
