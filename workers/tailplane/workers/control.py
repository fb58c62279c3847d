"""Hears what control planes tell this worker: that a task is cancelled, or that a message has come for one."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from tailplane.broker import Broker, TaskRef
from tailplane.protocol import codec
from tailplane.protocol.errors import StoreUnavailable, TailplaneError
from tailplane.protocol.ids import WorkerId

log = structlog.get_logger("tailplane.workers")

# Seconds between two tries to subscribe while Redis is away; afterwards the subscription comes back by itself.
PAUSE = 0.5


async def listen(
    broker: Broker,
    worker: WorkerId,
    on_cancel: Callable[[TaskRef, str | None], None],
    on_message: Callable[[TaskRef], None],
) -> None:
    """Call `on_cancel` with each task to stop and the reason given, `on_message` with each whose inbox has grown, until
    cancelled.

    What is lost with its connection does no lasting harm: the control plane ends the task without the worker, and the
    next renewal of the lease tells that it is held no more; who waits for a message looks by itself, too.
    """

    def hear(_: str, message: bytes | None) -> None:
        if message is None:
            return
        try:
            member, reason, *what = codec.unpack(message)
            task = TaskRef.from_member(member.encode())
        except (TailplaneError, ValueError, TypeError, AttributeError):
            # Whoever may publish here must not be able to end the worker.
            log.warning("message not understood", size=len(message))
            return
        if what == ["message"]:
            on_message(task)
        elif not what:
            on_cancel(task, reason)

    subscriptions = broker.hear_controls(hear)
    async with asyncio.TaskGroup() as group:
        group.create_task(subscriptions.run())
        while True:
            with contextlib.suppress(StoreUnavailable):
                await subscriptions.subscribe(broker.keys.control(worker))
                break
            await asyncio.sleep(PAUSE)
