"""Which tasks have joined a session, in the order in which they did. Lives on the queue's server.

A session's list of them is a Redis Stream that `enqueue.lua` appends to: entry `0-n` names the n-th task. Ids of tasks
are ordered by time only roughly (clocks differ, a submit may take a while), and would let a reader miss one that comes
in behind it; these numbers have neither holes nor latecomers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.store import Command
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.ids import DEFAULT_TENANT, EntryId, SessionId, TaskId


class SessionRef(NamedTuple):
    """A session's id and the tenant it belongs to."""

    session_id: SessionId
    tenant: str = DEFAULT_TENANT


class Join(NamedTuple):
    """The n-th task of a session."""

    number: int
    task: TaskRef


class Look(NamedTuple):
    """What a look at a session found.

    Attributes:
        is_there: whether there is such a session.
        is_closed: whether it takes no more tasks: then none has joined after those of a look that is complete.
        joined: in order.
    """

    is_there: bool
    is_closed: bool
    joined: list[Join]


@dataclass(frozen=True, slots=True)
class Joins:
    """The lists of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def look(self, wanted: Sequence[tuple[SessionRef, int, int]]) -> list[Look]:
        """Return how each of these sessions stands, in one round trip.

        Args:
            wanted: of each session the number from which to read, itself included, and how many tasks at the most.
        """
        commands: list[Command] = []
        for (session, tenant), first, most in wanted:
            # In this order: nothing joins after the session was seen closed.
            commands += (
                ("HGET", self.keys.session(tenant, session), "closed"),
                ("XRANGE", self.keys.session_joins(tenant, session), f"0-{first}", "+", "COUNT", most),
            )
        replies = await self.wire.call(commands)
        raise_refusals(replies)
        return [
            Look(closed is not None, closed == b"1", _parse(ref.tenant, rows))
            for (ref, _, _), closed, rows in zip(wanted, replies[::2], replies[1::2], strict=True)
        ]

    async def newest(self, ref: SessionRef) -> Look:
        """Return how a session stands, with the task that joined last."""
        session, tenant = ref
        replies = await self.wire.call(
            [
                ("HGET", self.keys.session(tenant, session), "closed"),
                ("XREVRANGE", self.keys.session_joins(tenant, session), "+", "-", "COUNT", 1),
            ]
        )
        raise_refusals(replies)
        closed, rows = replies
        return Look(closed is not None, closed == b"1", _parse(tenant, rows))

    async def named(self, ref: SessionRef, numbers: Sequence[int]) -> list[Join | None]:
        """Return the tasks of these numbers, in their order; None where there is none."""
        key = self.keys.session_joins(ref.tenant, ref.session_id)
        replies = await self.wire.call([("XRANGE", key, f"0-{number}", f"0-{number}") for number in numbers])
        raise_refusals(replies)
        return [joined[0] if (joined := _parse(ref.tenant, rows)) else None for rows in replies]


def _parse(tenant: str, rows: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[Join]:
    # Field, value: `t`, the task's id.
    return [Join(EntryId.parse(entry).seq, TaskRef(TaskId(fields[1].decode()), tenant)) for entry, fields in rows]
