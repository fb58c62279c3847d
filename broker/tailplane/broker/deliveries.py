"""Delivers messages to tasks: into the inbox first, then whoever can go on with it is told.

A message that is in the inbox is not lost, whatever becomes of who delivers it: a worker that waits for it looks by
itself, and the parked are looked after. Only then is the sender answered. Used by control planes for what applications
send, and by whoever ends a task for the task that has started it.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Unpack

from tailplane.broker.inbox import Delivered, Delivery, Inbox
from tailplane.broker.keys import TaskRef
from tailplane.broker.parking import Parked, Parking
from tailplane.broker.queue import Queue
from tailplane.broker.records import Parent
from tailplane.protocol.errors import TaskEnded, TaskNotFound
from tailplane.protocol.ids import TaskId
from tailplane.protocol.states import State

# What a task is told when one that it has started has ended. Names that begin so are ours alone.
CHILD_ENDED = "task.ended"


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Delivers to the tasks of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    inbox: Inbox
    queue: Queue
    parking: Parking

    async def deliver(self, task: TaskRef, type_: str | None, data: Any, **how: Unpack[Delivery]) -> Delivered:
        """Put a message into a task's inbox as `Inbox.deliver` does, and let the task go on if it waits for it.

        Where this fails it may have been delivered: a key makes it safe to ask again.
        """
        delivered = await self.inbox.deliver(task, type_, data, **how)
        # Also for one that was there before: who delivered it may have died in between.
        if delivered.state is State.RUNNING and delivered.worker is not None:
            await self.queue.tell_message(delivered.worker, task)
        elif delivered.state is State.WAITING:
            # Where it is not parked yet, its worker looks at the inbox once more when it is.
            await self.parking.unpark(Parked(task, delivered.workflow))
        return delivered

    async def tell_parent(self, parent: Parent, tenant: str, child: TaskId) -> None:
        """Tell the task that has started another one that this has ended. Done again, it changes nothing."""
        task = TaskRef(parent.task_id, tenant)
        # Nobody may wait any more.
        with contextlib.suppress(TaskNotFound, TaskEnded):
            await self.deliver(task, CHILD_ENDED, {"task_id": child}, **_how_of(child))

    async def note_ended(self, task: TaskRef, child: TaskId) -> bool:
        """Put into a task's inbox that one which it has started has ended, and tell nobody; False: it is there, or
        nobody waits any more.
        """
        try:
            noted = await self.inbox.deliver(task, CHILD_ENDED, {"task_id": child}, **_how_of(child))
        except (TaskNotFound, TaskEnded):
            return False
        return noted.is_new


def _how_of(child: TaskId) -> Delivery:
    # Callers' own keys have no line breaks: none of theirs stands in its place. However full the inbox is: there are as
    # many of these as it has children.
    return {"key": f"{CHILD_ENDED}\n{child}", "most": 2**53, "most_bytes": 2**53}
