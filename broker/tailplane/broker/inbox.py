"""A task's inbox: what others send to it, kept in its record until the task is gone. Each message comes once.

Used by control planes, which deliver, and by workers, whose attempts read. A message may come before anybody waits for
it, and while no worker has the task. Which of them an attempt has got is a part of what the task remembers.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, TypedDict

from tailplane.broker import scripts
from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.memory import INBOX, KEY, MESSAGE, Message, parse_message
from tailplane.broker.store import Store
from tailplane.protocol import codec
from tailplane.protocol.errors import IdempotencyConflict, InboxFull, TaskEnded, TaskNotFound
from tailplane.protocol.ids import WorkerId
from tailplane.protocol.states import State

# How many messages a task's inbox may ever get, unless the deployment says otherwise.
MOST_MESSAGES = 10_000
# And how many bytes of msgpack: an attempt that goes on reads them all.
MOST_BYTES = 64 * 1024 * 1024
# Messages that are read in one command: others wait for so long.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that is in an inbox.

    Attributes:
        number: its place there, from 1.
        is_new: whether this delivery has put it there, and no earlier one with the same key.
        state: the task's.
        worker: who runs the task, or ran it last; None: nobody.
        workflow: the task's.
    """

    number: int
    is_new: bool
    state: State
    worker: WorkerId | None
    workflow: str


class Delivery(TypedDict, total=False):
    """How a message is delivered: see `Inbox.deliver`."""

    key: str | None
    most: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Inbox:
    """The inboxes of one deployment's tasks. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Store
    keys: Keys

    async def deliver(
        self,
        task: TaskRef,
        type_: str | None,
        data: Any,
        *,
        key: str | None = None,
        most: int = MOST_MESSAGES,
        most_bytes: int = MOST_BYTES,
    ) -> Delivered:
        """Put a message into a task's inbox, once per key.

        Args:
            type_: what its sender calls it.
            data: what msgpack carries.
            key: tells a repetition; None: each delivery is another message.
            most: how many messages the inbox may ever get.
            most_bytes: how many bytes these may have together.
        Raises:
            TaskNotFound: there is no such task.
            TaskEnded, InboxFull: it takes no more messages.
            IdempotencyConflict: the key came before, with another message.
            Unserialisable: msgpack can't carry the data.
        """
        message = codec.pack([type_, data])
        digest = hashlib.sha256(message).hexdigest()[:32]
        field = "" if key is None else KEY + key
        arguments = [message, field, digest, most, MESSAGE, most_bytes]
        reply = await scripts.DELIVER.run(self.wire, [self.keys.task(task)], arguments)
        match reply:
            case [b"delivered" | b"known" as how, number, state, worker, workflow]:
                holder = WorkerId(worker.decode()) if worker else None
                return Delivered(number, how == b"delivered", State(state.decode()), holder, workflow.decode())
            case [b"other", *_]:
                raise IdempotencyConflict("this idempotency key came before, with another message")
            case [b"ended", state]:
                raise TaskEnded(f"task {task.task_id} has {state.decode()}", task_id=task.task_id, state=state.decode())
            case [b"full", count, size]:
                raise InboxFull(
                    f"task {task.task_id} has got {count:,} messages of {size:,} bytes, and takes no more",
                    limit=most if count >= most else most_bytes,
                )
            case _:
                raise TaskNotFound(f"there is no task {task.task_id}", task_id=task.task_id)

    async def count(self, task: TaskRef) -> int:
        """Return how many messages a task's inbox ever got."""
        return int(await self.wire.run("HGET", self.keys.task(task), INBOX) or 0)

    async def read(self, task: TaskRef, after: int) -> list[Message]:
        """Return the messages that follow number `after`, in order; not all where there are many: ask again."""
        last = min(await self.count(task), after + _PAGE)
        if last <= after:
            return []
        numbers = range(after + 1, last + 1)
        rows = await self.wire.run("HMGET", self.keys.task(task), *(f"{MESSAGE}{number}" for number in numbers))
        return [parse_message(number, row) for number, row in zip(numbers, rows, strict=True)]
