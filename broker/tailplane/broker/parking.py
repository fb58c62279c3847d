"""Parked tasks: those that wait for a message longer than a worker's slot is worth. Lives on the queue's server.

A parked task is in the one place where no worker looks. It comes back to its queue when a message has come for it, when
its wait has lasted as long as it may, or when whoever looks after the parked finds that a message was missed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tailplane.broker import scripts
from tailplane.broker.claims import Claim
from tailplane.broker.keys import Keys, TaskRef, queue_name
from tailplane.broker.moves import move
from tailplane.broker.queue import SESSION_IDLE, SESSION_WAIT
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.ids import SessionId, WorkerId


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked task, and the workflow whose queue it comes back to."""

    task: TaskRef
    workflow: str

    @property
    def place(self) -> str:
        """The form in which the set of the parked holds it."""
        return f"{self.workflow}/{self.task.member}"

    @property
    def queue(self) -> str:
        """The name of that queue."""
        return queue_name(self.task.tenant, self.workflow)

    @classmethod
    def from_place(cls, place: bytes) -> "Parked":
        """Return the task that a member of that set names."""
        workflow, _, member = place.partition(b"/")
        return cls(TaskRef.from_member(member), workflow.decode())


@dataclass(frozen=True, slots=True)
class Parking:
    """The parked tasks of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def park(self, worker: WorkerId, claim: Claim, until: float | None, session: SessionId | None = None) -> bool:
        """Park a task that a worker holds; return False if it holds it no more.

        Args:
            until: when it is to run again in any case, in seconds since the epoch by the server's clock; None: never.
            session: which the task belongs to: it stays for as long, up to 30 days.
        """
        parked = Parked(claim.task, claim.workflow)
        # Also of a time that is too far away to be a number.
        score = "inf" if until is None or math.isinf(until * 1000) else math.ceil(until * 1000)
        tenant, of = claim.task.tenant, session or SessionId("-")
        names = [
            self.keys.running(worker),
            self.keys.parked,
            self.keys.session(tenant, of),
            self.keys.session_tasks(tenant, of),
            self.keys.session_joins(tenant, of),
            self.keys.session_state(tenant, of),
        ]
        idle, longest = (int(each.total_seconds() * 1000) for each in (SESSION_IDLE, SESSION_WAIT))
        args = [claim.task.member, worker, parked.place, score, idle if session else 0, longest]
        return bool(await move(self.wire, self.keys, scripts.PARK, names, args, [claim.queue]))

    async def unpark(self, parked: Parked) -> bool:
        """Put a parked task back into its queue; return False if it is not parked: not yet, or no more."""
        args = [parked.place, parked.task.member]
        return bool(await move(self.wire, self.keys, scripts.UNPARK, [self.keys.parked], args, [parked.queue]))

    async def due(self, now_ms: int, limit: int) -> list[Parked]:
        """Return tasks whose time to run again has come, the longest due first."""
        rows = await self.wire.run("ZRANGEBYSCORE", self.keys.parked, "-inf", now_ms, "LIMIT", 0, limit)
        return [Parked.from_place(row) for row in rows]

    async def page(self, skip: int, limit: int) -> list[Parked]:
        """Return some of all parked tasks, in the order of their times, behind the first `skip`."""
        rows = await self.wire.run("ZRANGE", self.keys.parked, skip, skip + limit - 1)
        return [Parked.from_place(row) for row in rows]

    async def are_parked(self, tasks: Sequence[Parked]) -> list[bool]:
        """Return of each task whether it is parked."""
        scores = await self.wire.call([("ZSCORE", self.keys.parked, each.place) for each in tasks])
        raise_refusals(scores)
        return [score is not None for score in scores]
