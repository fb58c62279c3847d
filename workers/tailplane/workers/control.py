"""Hears what control planes tell this worker: that a task is cancelled."""

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


async def listen(broker: Broker, worker: WorkerId, on_cancel: Callable[[TaskRef, str | None], None]) -> None:
    """Call `on_cancel` with each task to stop and the reason given, until cancelled.

    A message that is lost with its connection does no lasting harm: the control plane ends the task without the worker,
    and the next renewal of the lease tells that it is held no more.
    """

    def hear(_: str, message: bytes | None) -> None:
        if message is None:
            return
        try:
            member, reason = codec.unpack(message)
            task = TaskRef.from_member(member.encode())
        except (TailplaneError, ValueError, TypeError, AttributeError):
            # Whoever may publish here must not be able to end the worker.
            log.warning("message not understood", size=len(message))
            return
        on_cancel(task, reason)

    subscriptions = broker.hear_controls(hear)
    async with asyncio.TaskGroup() as group:
        group.create_task(subscriptions.run())
        while True:
            with contextlib.suppress(StoreUnavailable):
                await subscriptions.subscribe(broker.keys.control(worker))
                break
            await asyncio.sleep(PAUSE)
