"""Delivers messages to tasks: into the inbox first, then whoever can go on with it is told.

A message that is in the inbox is not lost, whatever becomes of this process: a worker that waits for it looks by
itself, and the parked are looked after. Only then is the sender answered.
"""

from typing import Any

import structlog

from tailplane.broker import Broker, TaskRef
from tailplane.broker.inbox import Delivered
from tailplane.broker.parking import Parked
from tailplane.protocol.states import State

log = structlog.get_logger(__name__)


class Deliveries:
    """Delivers to the tasks of one deployment.

    Args:
        max_messages: how many a task's inbox may ever get.
    """

    def __init__(self, broker: Broker, max_messages: int) -> None:
        self._broker = broker
        self._max_messages = max_messages

    async def deliver(self, task: TaskRef, type_: str | None, data: Any, key: str | None) -> Delivered:
        """Put a message into a task's inbox, once per key, and let the task go on if it waits for it.

        Raises:
            TaskNotFound, TaskEnded, InboxFull, IdempotencyConflict: it does not take the message.
            StoreUnavailable: Redis does not answer. It may have been delivered: a key makes it safe to ask again.
        """
        delivered = await self._broker.inbox.deliver(task, type_, data, key=key, most=self._max_messages)
        # Also of one that was there before: who delivered it may have died in between.
        await self.wake(task, delivered)
        log.debug("message delivered", task_id=task.task_id, number=delivered.number, type=type_)
        return delivered

    async def wake(self, task: TaskRef, delivered: Delivered) -> None:
        """Let a task look at its inbox.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        if delivered.state is State.RUNNING and delivered.worker is not None:
            await self._broker.queue.tell_message(delivered.worker, task)
        elif delivered.state is State.WAITING:
            # Where it is not parked yet, its worker looks at the inbox once more when it is.
            await self._broker.parking.unpark(Parked(task, delivered.workflow))
