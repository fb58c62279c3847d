"""What outlives one attempt of a task, on the platform's side: what earlier ones left, the inbox, children, parking."""

import asyncio
from collections.abc import Callable

from tailplane.broker import Begun
from tailplane.broker.memory import INBOX_SEEN, Memory, Message, load
from tailplane.protocol.ids import TaskId
from tailplane.workers.bridge import Bridge
from tailplane.workers.durable import Bounds, Durable, Ways
from tailplane.workers.emitter import Emitter
from tailplane.workers.family import Family, is_orphan
from tailplane.workers.inbox_watch import InboxWatch
from tailplane.workers.platform_side import Platform


class Survival:
    """What one attempt is given by those before it, and leaves to those after it.

    Args:
        on_platform: runs a call on the platform's loop; may be called from any thread.
        park: asks for the attempt to be parked; called on the platform's loop.

    Attributes:
        durable: what its code can do durably; None before `load`.
        until: when the task is to run again in any case, if it is to be parked; None: never.
        known: how many messages its code has looked at then.
    """

    def __init__(
        self,
        platform: Platform,
        begun: Begun,
        emitter: Emitter,
        on_platform: Callable[..., None],
        park: Callable[[], None],
    ) -> None:
        self.durable: Durable | None = None
        self.until: float | None = None
        self.known = 0
        self._platform = platform
        self._begun = begun
        self._emitter = emitter
        self._on_platform = on_platform
        self._park = park
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._family = Family(platform, begun)
        self._watch: InboxWatch | None = None
        self._watching: asyncio.Task[None] | None = None

    async def is_orphan(self) -> bool:
        """Whether the task that has started this one has ended.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        return await is_orphan(self._platform, self._begun)

    async def load(self) -> Durable:
        """Return what makes the attempt durable, with what earlier ones left.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        begun, platform, limits = self._begun, self._platform, self._platform.limits
        memory = Memory()
        if begun.attempt > 1:
            memory = await load(platform.broker.tasks.wire, platform.broker.keys, begun.record.ref)
        # With the first attempt stands what was said before it.
        first = 1 if begun.attempt == 1 else begun.opening.after + 1
        self.durable = Durable(
            self._emitter,
            memory,
            (first, begun.seq),
            begun.record.failures,
            platform.runner.pool,
            Bounds(limits.event, limits.calls, platform.park_after),
            Ways(self._server_time, self._begin_watch, self._ask_to_park, Bridge(self._loop)),
            self._family,
        )
        return self.durable

    def note_message(self) -> None:
        """Look at the inbox: somebody says that a message has come."""
        if self._watch is not None:
            self._watch.ring()

    def waiting_fields(self, seq: int) -> list[bytes | str]:
        """Return what the record gets of a task that is parked, with the event `seq`, its attempt's last."""
        if self.durable is None:
            return []
        # Not what has come since the code was found to wait: it may not have looked at that.
        return [*self.durable.journal.sealed((seq, seq)), INBOX_SEEN, str(self.known)]

    async def cancel_children(self) -> None:
        """Cancel the children that have not ended: their parent has."""
        durable = self.durable
        # Where no code has run: those that earlier attempts have left.
        left = self._begun.record.children if durable is None else map(TaskId, durable.journal.open_children)
        await self._family.cancel(left)

    def close(self) -> None:
        """Look at the inbox no more."""
        if self._watching is not None:
            self._watching.cancel()

    def _server_time(self) -> float:
        return (self._begun.record.started_at or 0.0) + self._loop.time() - self._began_at

    def _begin_watch(self) -> None:
        self._on_platform(self._watch_inbox)

    def _watch_inbox(self) -> None:
        if self._watching is not None or self.durable is None:
            return
        durable, loop, platform = self.durable, self._platform.runner.loop, self._platform

        def tell(messages: list[Message]) -> None:
            loop.call_soon_threadsafe(durable.arrivals.add, messages)

        async def look_after_children() -> None:
            if children := durable.children.awaited:
                await self._family.look_after(children)

        task = self._begun.record.ref
        self._watch = InboxWatch(platform.broker.inbox, task, durable.arrivals.count, tell, look_after_children)
        self._watching = self._loop.create_task(self._watch.run())

    def _ask_to_park(self, until: float | None, known: int) -> None:
        self._on_platform(self._be_parked, until, known)

    def _be_parked(self, until: float | None, known: int) -> None:
        # One that has no time left is begun again, too: to be ended.
        times = [time for time in (until, self._begun.record.end_by) if time is not None]
        self.until, self.known = min(times, default=None), known
        self._park()
