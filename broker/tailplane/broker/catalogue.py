"""The catalogue: sessions, which tasks there are, and which of them are dead letters. Lives on the queue's server.

Used by control planes; workers only note what failed. A dead letter leaves its list once: what took it off is
remembered as a request whose idempotency key is the task's id.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tailplane.broker import scripts
from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.queue import REQUEST_MEMORY, SESSION_IDLE, Request
from tailplane.broker.records import SessionRecord, parse_flat
from tailplane.broker.store import Command
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol import codec
from tailplane.protocol.errors import IdempotencyConflict, SessionNotFound
from tailplane.protocol.ids import SessionId, TaskId, new_session_id

# How long the catalogue knows that an id was once a task's: 410 instead of 404.
GONE_MEMORY_MS = 30 * 24 * 3600 * 1000


# What takes a dead letter off its list.
_REQUEUE = "requeue"
_DROP = "drop"


def requeue_request(letter: TaskId, kept: timedelta) -> Request:
    """Return the request for which a dead letter is run again, once; `kept` is how long failed tasks are."""
    return Request(letter, _REQUEUE, kept)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Sessions and the indexes of tasks. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def create_session(
        self, tenant: str, metadata: Mapping[str, str], request: Request | None = None
    ) -> SessionRecord:
        """Create a session, once per request.

        Raises:
            IdempotencyConflict: the idempotency key made something else.
        """
        session = new_session_id()
        if request:
            memory = codec.pack([session, request.content])
            key = self.keys.request(tenant, request.key)
            known = await self.wire.run("SET", key, memory, "PX", _ms(REQUEST_MEMORY), "NX", "GET")
            if known:
                made, content = codec.unpack(known)
                if content != request.content:
                    raise IdempotencyConflict("this idempotency key came before, with another request")
                session = SessionId(made)
        key = self.keys.session(tenant, session)
        await self._all_or_nothing(
            ("HSETNX", key, "created_at", str(time.time())),
            ("HSETNX", key, "closed", "0"),
            ("HSETNX", key, "metadata", codec.pack(dict(metadata))),
            ("PEXPIRE", key, _ms(SESSION_IDLE)),
        )
        return await self.session(tenant, session)

    async def session(self, tenant: str, session: SessionId) -> SessionRecord:
        """Return a session.

        Raises:
            SessionNotFound: there is none.
        """
        row = parse_flat(await self.wire.run("HGETALL", self.keys.session(tenant, session)))
        if not row:
            raise SessionNotFound(f"there is no session {session}", session_id=session)
        return SessionRecord(
            session_id=session,
            tenant=tenant,
            created_at=float(row["created_at"]),
            closed=row["closed"] == b"1",
            metadata=codec.unpack(row["metadata"]),
        )

    async def close_session(self, tenant: str, session: SessionId) -> SessionRecord:
        """Let a session take no more tasks.

        Raises:
            SessionNotFound: there is none.
        """
        found = await self.session(tenant, session)
        key = self.keys.session(tenant, session)
        await self._all_or_nothing(
            ("HSET", key, "closed", "1"),
            # It may have expired, and be new: what is written then must go, too.
            ("PEXPIRE", key, _ms(SESSION_IDLE), "NX"),
            # A task of it may need it for longer.
            ("PEXPIRE", key, _ms(SESSION_IDLE), "GT"),
            # Whoever reads the session must find its tasks for as long as the session itself.
            ("PEXPIRE", self.keys.session_joins(tenant, session), _ms(SESSION_IDLE), "GT"),
            ("PUBLISH", self.keys.joined(tenant, session), ""),
        )
        return SessionRecord(found.session_id, tenant, found.created_at, True, found.metadata)

    async def task_ids(self, tenant: str, session: SessionId | None, before: TaskId | None, limit: int) -> list[TaskId]:
        """Return ids of tasks, newest first, older than `before`."""
        key = self.keys.session_tasks(tenant, session) if session else self.keys.tasks(tenant)
        return await self._newest(key, before, limit)

    async def oldest_task_ids(self, tenant: str, after: TaskId | None, limit: int) -> list[TaskId]:
        """Return ids of tasks, oldest first, newer than `after`."""
        return await self._oldest(self.keys.tasks(tenant), after, limit)

    async def note_tasks(self, tenant: str, tasks: list[TaskId]) -> None:
        """Put tasks into the index that it may have lost; done again, nothing changes."""
        await self.wire.run("ZADD", self.keys.tasks(tenant), *(item for task in tasks for item in (0, task)))

    async def note_gone(self, tenant: str, tasks: list[TaskId], session: SessionId | None = None) -> None:
        """Remember that these tasks' records have been removed: their retention has passed.

        Args:
            session: the session in whose index they were found.
        """
        now = int(time.time() * 1000)
        scored = [item for task in tasks for item in (now, task)]
        commands: list[Command] = [
            ("ZADD", self.keys.gone(tenant), *scored),
            ("ZREM", self.keys.tasks(tenant), *tasks),
            ("ZREMRANGEBYSCORE", self.keys.gone(tenant), "-inf", now - GONE_MEMORY_MS),
        ]
        if session:
            commands.append(("ZREM", self.keys.session_tasks(tenant, session), *tasks))
        await self._all_or_nothing(*commands)

    async def note_dead(self, task: TaskRef) -> None:
        """Put a failed task on the list of dead letters, unless it was taken off before; done again, nothing changes.

        Whoever has ended a task as failed calls it before the claim is acknowledged. A worker that dies in between
        still holds the claim: whoever gets it next finds the task failed, and calls it.
        """
        keys = [self.keys.dead(task.tenant), self.keys.request(task.tenant, task.task_id)]
        await scripts.NOTE_DEAD.run(self.wire, keys, [task.task_id])

    async def dead_letter_ids(self, tenant: str, before: TaskId | None, limit: int) -> list[TaskId]:
        """Return ids of dead letters, newest first, older than `before`."""
        return await self._newest(self.keys.dead(tenant), before, limit)

    async def dead_letter_counts(self, tenants: Sequence[str]) -> dict[str, int]:
        """Return how many dead letters each tenant's list has, those that have gone and were not swept yet included."""
        counts = await self.wire.call([("ZCARD", self.keys.dead(tenant)) for tenant in tenants])
        raise_refusals(counts)
        return dict(zip(tenants, counts, strict=True))

    async def oldest_dead_letter_ids(self, tenant: str, after: TaskId | None, limit: int) -> list[TaskId]:
        """Return ids of dead letters, oldest first, newer than `after`."""
        return await self._oldest(self.keys.dead(tenant), after, limit)

    async def drop_dead(self, task: TaskRef, kept: timedelta) -> bool:
        """Take a failed task off the list of dead letters; False if it was requeued before.

        Args:
            kept: how long failed tasks are kept: it can come back for so long, and must not be listed again.
        """
        memory = codec.pack([task.task_id, _DROP])
        known, _ = await self._all_or_nothing(
            ("SET", self.keys.request(task.tenant, task.task_id), memory, "PX", _ms(kept), "NX", "GET"),
            ("ZREM", self.keys.dead(task.tenant), task.task_id),
        )
        return known in (None, memory)

    async def forget_dead(self, tenant: str, tasks: list[TaskId]) -> None:
        """Take tasks off the list of dead letters whose records have been removed: their retention has passed."""
        await self.wire.run("ZREM", self.keys.dead(tenant), *tasks)

    async def was_here(self, task: TaskRef) -> bool:
        """Whether there once was a task of this id, whose record is no more."""
        scores = await self.wire.call(
            [("ZSCORE", key, task.task_id) for key in (self.keys.tasks(task.tenant), self.keys.gone(task.tenant))]
        )
        raise_refusals(scores)
        return any(score is not None for score in scores)

    async def _newest(self, key: str, before: TaskId | None, limit: int) -> list[TaskId]:
        rows = await self.wire.run("ZREVRANGEBYLEX", key, f"({before}" if before else "+", "-", "LIMIT", 0, limit)
        return [TaskId(row.decode()) for row in rows]

    async def _oldest(self, key: str, after: TaskId | None, limit: int) -> list[TaskId]:
        rows = await self.wire.run("ZRANGEBYLEX", key, f"({after}" if after else "-", "+", "LIMIT", 0, limit)
        return [TaskId(row.decode()) for row in rows]

    async def _all_or_nothing(self, *commands: Command) -> list[Any]:
        replies = await self.wire.call([("MULTI",), *commands, ("EXEC",)])
        raise_refusals(replies)
        done: list[Any] = replies[-1]
        raise_refusals(done)
        return done


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
