"""The catalogue: sessions, and which tasks there are. Used by control planes only; lives on the queue's server."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from tailplane.broker.connection import store_errors
from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.queue import REQUEST_MEMORY, SESSION_IDLE, Request
from tailplane.broker.records import SessionRecord
from tailplane.protocol import codec
from tailplane.protocol.errors import IdempotencyConflict, SessionNotFound
from tailplane.protocol.ids import SessionId, TaskId, new_session_id

# How long the catalogue knows that an id was once a task's: 410 instead of 404.
GONE_MEMORY_MS = 30 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Sessions and the indexes of tasks. Every method raises StoreUnavailable when Redis does not answer."""

    redis: Redis
    keys: Keys

    async def create_session(
        self, tenant: str, metadata: Mapping[str, str], request: Request | None = None
    ) -> SessionRecord:
        """Create a session, once per request.

        Raises:
            IdempotencyConflict: the idempotency key made something else.
        """
        session = new_session_id()
        with store_errors():
            if request:
                memory = codec.pack([session, request.content])
                key = self.keys.request(tenant, request.key)
                known = await self.redis.set(key, memory, px=REQUEST_MEMORY, nx=True, get=True)
                if known:
                    made, content = codec.unpack(known)
                    if content != request.content:
                        raise IdempotencyConflict("this idempotency key came before, with another request")
                    session = SessionId(made)
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hsetnx(self.keys.session(tenant, session), "created_at", str(time.time()))
                pipe.hsetnx(self.keys.session(tenant, session), "closed", "0")
                pipe.hsetnx(self.keys.session(tenant, session), "metadata", codec.pack(dict(metadata)))  # type: ignore[arg-type]
                pipe.pexpire(self.keys.session(tenant, session), SESSION_IDLE)
                await pipe.execute()
        return await self.session(tenant, session)

    async def session(self, tenant: str, session: SessionId) -> SessionRecord:
        """Return a session.

        Raises:
            SessionNotFound: there is none.
        """
        with store_errors():
            row: dict[bytes, bytes] = await self.redis.hgetall(self.keys.session(tenant, session))  # type: ignore[misc]
        if not row:
            raise SessionNotFound(f"there is no session {session}", session_id=session)
        return SessionRecord(
            session_id=session,
            tenant=tenant,
            created_at=float(row[b"created_at"]),
            closed=row[b"closed"] == b"1",
            metadata=codec.unpack(row[b"metadata"]),
        )

    async def close_session(self, tenant: str, session: SessionId) -> SessionRecord:
        """Let a session take no more tasks.

        Raises:
            SessionNotFound: there is none.
        """
        found = await self.session(tenant, session)
        with store_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hset(self.keys.session(tenant, session), "closed", "1")
                # It may have expired since it was read: what is written then must go, too.
                pipe.pexpire(self.keys.session(tenant, session), SESSION_IDLE)
                await pipe.execute()
        return SessionRecord(found.session_id, tenant, found.created_at, True, found.metadata)

    async def task_ids(self, tenant: str, session: SessionId | None, before: TaskId | None, limit: int) -> list[TaskId]:
        """Return ids of tasks, newest first, older than `before`."""
        key = self.keys.session_tasks(tenant, session) if session else self.keys.tasks(tenant)
        with store_errors():
            rows: list[bytes] = await self.redis.zrevrangebylex(key, f"({before}" if before else "+", "-", 0, limit)
        return [TaskId(row.decode()) for row in rows]

    async def oldest_task_ids(self, tenant: str, after: TaskId | None, limit: int) -> list[TaskId]:
        """Return ids of tasks, oldest first, newer than `after`."""
        with store_errors():
            rows: list[bytes] = await self.redis.zrangebylex(
                self.keys.tasks(tenant), f"({after}" if after else "-", "+", 0, limit
            )
        return [TaskId(row.decode()) for row in rows]

    async def note_gone(self, tenant: str, tasks: list[TaskId], session: SessionId | None = None) -> None:
        """Remember that these tasks' records have been removed: their retention has passed.

        Args:
            session: the session in whose index they were found.
        """
        now = int(time.time() * 1000)
        with store_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.zadd(self.keys.gone(tenant), dict.fromkeys(tasks, now))
                pipe.zrem(self.keys.tasks(tenant), *tasks)
                if session:
                    pipe.zrem(self.keys.session_tasks(tenant, session), *tasks)
                pipe.zremrangebyscore(self.keys.gone(tenant), "-inf", now - GONE_MEMORY_MS)
                await pipe.execute()

    async def was_here(self, task: TaskRef) -> bool:
        """Whether there once was a task of this id, whose record is no more."""
        with store_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.zscore(self.keys.tasks(task.tenant), task.task_id)
                pipe.zscore(self.keys.gone(task.tenant), task.task_id)
                scores: list[Any] = await pipe.execute()
        return any(score is not None for score in scores)
