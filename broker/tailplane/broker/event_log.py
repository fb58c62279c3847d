"""The event log: one Redis Stream per task, appended by its attempt and read by anybody.

Entry ids are given explicitly (`<fence>-<seq>`), so Redis itself refuses what a fenced-off attempt writes and what is
sent twice: an append needs no script. NOMKSTREAM keeps a late writer from re-creating a stream that has expired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tailplane.broker.connection import raise_if_away, store_errors
from tailplane.broker.keys import Keys, TaskRef
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.ids import EntryId


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream: events packed together.

    Attributes:
        id: its id; `id.seq` is the seq of its last event.
        payload: msgpack array of events, as stored.
        end: the terminal state that its last event tells of, or None.
    """

    id: EntryId
    payload: bytes
    end: str | None = None

    @property
    def first_seq(self) -> int:
        """The seq of its first event."""
        return self.id.seq - _array_length(self.payload) + 1


@dataclass(frozen=True, slots=True)
class Append:
    """An entry that an attempt writes."""

    task: TaskRef
    id: EntryId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Redis did not take an entry.

    Attributes:
        tail: where the stream really ends; None: there is no stream.
        reason: Redis' own words, where it was neither its id nor a missing stream.
    """

    tail: EntryId | None
    reason: str | None = None

    def means_already_there(self, entry: EntryId) -> bool:
        """Whether the entry was refused because an earlier sending of it had arrived."""
        return self.tail is not None and self.tail.fence == entry.fence and self.tail.seq >= entry.seq


def _array_length(payload: bytes) -> int:
    first = payload[0]
    if first < 0xDC:
        return first & 0x0F
    return int.from_bytes(payload[1:3] if first == 0xDC else payload[1:5], "big")


def _parse_entries(rows: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Entry]:
    return [
        Entry(EntryId.parse(entry), fields[b"e"], fields[b"end"].decode() if b"end" in fields else None)
        for entry, fields in rows
    ]


@dataclass(frozen=True, slots=True)
class EventLog:
    """The streams of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    redis: Redis
    keys: Keys

    async def append(self, appends: Sequence[Append]) -> list[Refusal | None]:
        """Append entries of any number of tasks in one round trip, and ring the bell of each.

        Returns:
            For each entry None, or why Redis refused it.
        """
        with store_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for item in appends:
                    pipe.execute_command(
                        "XADD", self.keys.stream(item.task), "NOMKSTREAM", str(item.id), "e", item.payload
                    )
                    # The bell rings after the entry is there; a ring for a refused entry does no harm.
                    pipe.execute_command("PUBLISH", self.keys.bell(item.task), item.id.seq)
                replies = await pipe.execute(raise_on_error=False)
        outcome: list[Refusal | None] = []
        for item, reply in zip(appends, replies[::2], strict=True):
            if isinstance(reply, ResponseError) and "equal or smaller" in str(reply):
                newest = await self.newest_entry(item.task)
                outcome.append(Refusal(newest.id if newest else None))
            elif isinstance(reply, Exception):
                with store_errors():
                    raise_if_away(reply)
                outcome.append(Refusal(None, str(reply)))
            else:
                outcome.append(Refusal(None) if reply is None else None)
        return outcome

    async def read_after(self, wanted: Sequence[tuple[TaskRef, EntryId, int]]) -> list[list[Entry]]:
        """Return what follows an entry in each of these streams, in one round trip.

        Args:
            wanted: of each stream the entry behind which to read, and how many entries at the most.
        """
        with store_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for task, after, count in wanted:
                    pipe.execute_command("XRANGE", self.keys.stream(task), f"({after}", "+", "COUNT", count)
                replies = await pipe.execute()
        return [_parse_entries(rows) for rows in replies]

    async def exist(self, tasks: Sequence[TaskRef]) -> list[bool]:
        """Return of each task whether its stream exists, in one round trip."""
        with store_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for task in tasks:
                    pipe.exists(self.keys.stream(task))
                return [bool(reply) for reply in await pipe.execute()]

    async def locate(self, task: TaskRef, cursor: Cursor, attempts: int) -> EntryId:
        """Return the id after which a reader must read that has seen everything up to `cursor`.

        A cursor does not tell its attempt, and Redis orders by attempt first: so ask in each attempt's range for the
        first entry behind the cursor and take the nearest. One round trip; one probe per attempt.
        """
        key = self.keys.stream(task)
        # Entries of attempt n begin with n, or n + 1 where the platform ended it from outside.
        fences = range(attempts + 2)
        with store_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for fence in fences:
                    pipe.execute_command("XRANGE", key, f"{fence}-{cursor + 1}", "+", "COUNT", 1)
                replies = await pipe.execute()
        behind = [EntryId.parse(rows[0][0]) for rows in replies if rows]
        nearest = min((entry for entry in behind if entry.seq > cursor), default=None, key=lambda entry: entry.seq)
        return EntryId(nearest.fence if nearest else attempts + 1, cursor)

    async def newest(self, task: TaskRef, count: int) -> Cursor:
        """Return the cursor that has the last `count` events behind it; 0 if there are no more than that."""
        key, before, seen = self.keys.stream(task), "+", 0
        while True:
            with store_errors():
                rows = await self.redis.execute_command("XREVRANGE", key, before, "-", "COUNT", 100)
            if not rows:
                return 0
            for entry in _parse_entries(rows):
                seen += entry.id.seq - entry.first_seq + 1
                if seen >= count:
                    return entry.first_seq - 1 + seen - count
            before = f"({rows[-1][0].decode()}"

    async def newest_entry(self, task: TaskRef) -> Entry | None:
        """Return a stream's last entry; None if there is no stream."""
        with store_errors():
            rows = await self.redis.execute_command("XREVRANGE", self.keys.stream(task), "+", "-", "COUNT", 1)
        return _parse_entries(rows)[0] if rows else None
