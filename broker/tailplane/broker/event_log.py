"""The event log: one Redis Stream per task, appended by its attempt and read by anybody.

Entry ids are given explicitly (`<fence>-<seq>`), so Redis itself refuses what a fenced-off attempt writes and what is
sent twice. NOMKSTREAM keeps a late writer from re-creating a stream that has expired. One script appends many entries
and publishes the small ones: readers need no second round trip, and hear of nothing that the stream has not taken.
"""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tailplane.broker import scripts
from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.store import Argument, Store
from tailplane.broker.wire import is_away, raise_refusals
from tailplane.protocol import frames
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import EntryId, WorkerId

# Bytes of payload up to which an entry travels with its bell. Larger ones, those of a busy stream, are read by whoever
# wants them: at their own pace, and not through a buffer of Redis' that would grow with a slow reader.
PUBLISH_BYTES = 4096
# Entries that one script appends, and bytes of payload: others wait for so long.
SCRIPT_ENTRIES = 50
SCRIPT_BYTES = 4 * 1024 * 1024


class Entry(NamedTuple):
    """One entry of a stream: events packed together.

    Attributes:
        id: its id; `id.seq` is the seq of its last event.
        payload: msgpack array of events, as stored.
        end: the terminal state that its last event tells of, or None.
        frame: the whole entry as a frame, where it came as one.
    """

    id: EntryId
    payload: bytes
    end: str | None = None
    frame: bytes | None = None

    @property
    def first_seq(self) -> int:
        """The seq of its first event."""
        return self.id.seq - _array_length(self.payload) + 1


class Append(NamedTuple):
    """An entry that an attempt writes.

    Attributes:
        entries: how many the stream must have before it, for it has lost some if it has fewer; -1: any number.
        worker: who must hold the attempt, unless any number of entries will do.
        fields: what the task's record gets with the entry, in the same step, as alternating fields and values.
    """

    task: TaskRef
    id: EntryId
    payload: bytes
    entries: int = -1
    worker: WorkerId | None = None
    fields: Sequence[bytes | str] = ()

    @property
    def after(self) -> Cursor:
        """The seq of the event before its first one."""
        return self.id.seq - _array_length(self.payload)


class Cut(NamedTuple):
    """Where the beginning of a stream is to end.

    Attributes:
        before: the entry before which others go.
        entries: how many the stream must have: it is left as it is if it has lost some, or has another writer's.
    """

    task: TaskRef
    before: EntryId
    entries: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Redis did not take an entry.

    Attributes:
        tail: where the stream really ends; None: there is no stream.
        entries: how many it has.
        reason: Redis' own words, where it was neither its place nor a missing stream.
        is_foreign: another worker holds an attempt of the same number: a failover has lost the beginning of this one.
    """

    tail: EntryId | None
    entries: int = 0
    reason: str | None = None
    is_foreign: bool = False

    def means_already_there(self, entry: EntryId) -> bool:
        """Whether the entry was refused because an earlier sending of it had arrived."""
        if self.tail is None or self.is_foreign:
            return False
        return self.tail.fence == entry.fence and self.tail.seq >= entry.seq

    def means_fenced(self, entry: EntryId) -> bool:
        """Whether another attempt has the stream, or nobody: it has ended, or is gone."""
        return self.tail is None or self.is_foreign or self.tail.fence > entry.fence


def ring_verb(store: Store) -> str:
    """Return the command that rings a bell. On a cluster a bell is heard where its stream is, instead of everywhere."""
    return "SPUBLISH" if store.is_cluster else "PUBLISH"


def _array_length(payload: bytes) -> int:
    first = payload[0]
    if first < 0xDC:
        return first & 0x0F
    return int.from_bytes(payload[1:3] if first == 0xDC else payload[1:5], "big")


def parse_published(message: bytes) -> Entry | None:
    """Return the entry that came with a bell; None where it only rang."""
    # A frame begins with the header of an array of three.
    if message[0] != 0x93:
        return None
    entry, payload = frames.split_frame(message)
    return Entry(entry, payload, None, message)


def _parse_entries(rows: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[Entry]:
    return [_parse_entry(entry, fields) for entry, fields in rows]


def _parse_entry(entry: bytes, fields: Sequence[bytes]) -> Entry:
    # Field, value: `e`, the payload; of the last one also `end`, the state.
    return Entry(EntryId.parse(entry), fields[1], fields[3].decode() if len(fields) > 2 else None)


@dataclass(frozen=True, slots=True)
class EventLog:
    """The streams of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Store
    keys: Keys

    def shard(self, task: TaskRef) -> Hashable:
        """Return what stands for the server that has a task's stream: who works for several does it apart for each."""
        return self.wire.shard(self.keys.stream(task))

    async def append(self, appends: Sequence[Append]) -> list[Refusal | None]:
        """Append entries of any number of tasks in one round trip, and tell the readers of each.

        Returns:
            For each entry None, or why Redis refused it.
        """
        # On a cluster a script takes the keys of one slot only.
        size = 1 if self.wire.is_cluster else SCRIPT_ENTRIES
        groups = [appends[begin : begin + size] for begin in range(0, len(appends), size)]
        replies = await scripts.APPEND.run_many(self.wire, [self._append_arguments(group) for group in groups])
        outcome: list[Refusal | None] = []
        for item, reply in zip(appends, itertools.chain.from_iterable(replies), strict=True):
            if isinstance(reply, bytes):
                outcome.append(None)
            elif reply is None:
                outcome.append(Refusal(None))
            elif isinstance(reply, StoreUnavailable):
                # Sent again, what had been taken is refused as there already.
                self.wire.noticed(reply)
                raise reply
            elif reply == 0 or "equal or smaller" in str(reply):
                outcome.append(await self._look(item))
            else:
                outcome.append(Refusal(None, reason=str(reply)))
        return outcome

    async def trim(self, cuts: Sequence[Cut]) -> list[int | None]:
        """Remove the beginnings of these streams, in one round trip.

        Returns:
            How many entries each stream has then; None where nothing was removed, for it is not as its writer knows it.
        """
        groups = [[cut] for cut in cuts] if self.wire.is_cluster else [cuts]
        replies = await scripts.TRIM.run_many(
            self.wire,
            [
                (
                    [self.keys.stream(cut.task) for cut in group],
                    [item for cut in group for item in (str(cut.before), cut.entries)],
                )
                for group in groups
            ],
        )
        return [None if entries < 0 else entries for entries in itertools.chain.from_iterable(replies)]

    async def _look(self, item: Append) -> Refusal:
        key, record = self.keys.stream(item.task), self.keys.task(item.task)
        replies = await self.wire.call(
            [
                ("XREVRANGE", key, "+", "-", "COUNT", 1),
                ("XLEN", key),
                ("HMGET", record, "attempt", "worker"),
            ]
        )
        raise_refusals(replies)
        rows, entries, (attempt, worker) = replies
        is_same = attempt is not None and int(attempt) == item.id.fence
        is_foreign = is_same and item.worker is not None and worker != item.worker.encode()
        return Refusal(_parse_entries(rows)[0].id if rows else None, entries, is_foreign=is_foreign)

    def _append_arguments(self, appends: Sequence[Append]) -> tuple[list[str], list[Argument]]:
        keys: list[str] = []
        arguments: list[Argument] = [ring_verb(self.wire)]
        for item in appends:
            keys += (self.keys.stream(item.task), self.keys.task(item.task))
            is_small = len(item.payload) <= PUBLISH_BYTES
            arguments += (
                str(item.id), frames.frame_head(item.id), item.payload, "1" if is_small else "", item.entries,
                item.worker or "", self.keys.bell(item.task), len(item.fields), *item.fields,
            )  # fmt: skip
        return keys, arguments

    async def read_after(self, wanted: Sequence[tuple[TaskRef, EntryId, int]]) -> list[list[Entry]]:
        """Return what follows an entry in each of these streams, in one round trip.

        Args:
            wanted: of each stream the entry behind which to read, and how many entries at the most.
        """
        replies = await self.wire.call(
            [("XRANGE", self.keys.stream(task), f"({after}", "+", "COUNT", count) for task, after, count in wanted]
        )
        raise_refusals(replies)
        return [_parse_entries(rows) for rows in replies]

    async def exist(self, tasks: Sequence[TaskRef]) -> list[bool | None]:
        """Return of each task whether its stream exists, in one round trip; None: its shard does not answer."""
        replies = await self.wire.call([("EXISTS", self.keys.stream(task)) for task in tasks])
        raise_refusals([reply for reply in replies if not is_away(reply)])
        return [None if is_away(reply) else bool(reply) for reply in replies]

    async def locate(self, task: TaskRef, cursor: Cursor, attempts: int) -> EntryId:
        """Return the id after which a reader must read that has seen everything up to `cursor`.

        A cursor does not tell its attempt, and Redis orders by attempt first: so ask in each attempt's range for the
        first entry behind the cursor and take the nearest. One round trip; one probe per attempt.
        """
        key = self.keys.stream(task)
        # Entries of attempt n begin with n, or n + 1 where the platform ended it from outside.
        fences = range(attempts + 2)
        while True:
            replies = await self.wire.call(
                [("XRANGE", key, f"{fence}-{cursor + 1}", "+", "COUNT", 1) for fence in fences]
            )
            raise_refusals(replies)
            behind = [EntryId.parse(rows[0][0]) for rows in replies if rows]
            nearest = min((entry for entry in behind if entry.seq > cursor), default=None, key=lambda entry: entry.seq)
            if nearest is not None:
                return EntryId(nearest.fence, cursor)
            newest = await self.newest_entry(task)
            # Has it grown meanwhile? Then there is a nearest one now, or else the stream is gone.
            if newest is None or newest.id.seq <= cursor:
                return newest.id if newest else EntryId(attempts, cursor)

    async def newest(self, task: TaskRef, count: int) -> Cursor:
        """Return the cursor that has the last `count` events behind it; 0 if there are no more than that.

        Events that are gone count, too: to look for those that are there would read the stream, however long it is.
        """
        newest = await self.newest_entry(task)
        return max(0, newest.id.seq - count) if newest else 0

    async def newest_entry(self, task: TaskRef) -> Entry | None:
        """Return a stream's last entry; None if there is no stream."""
        rows = await self.wire.run("XREVRANGE", self.keys.stream(task), "+", "-", "COUNT", 1)
        return _parse_entries(rows)[0] if rows else None
