"""Looks after the parked tasks: gives back those whose time has come, those for which a message was missed, and those
that do not wait by their record: it was ended by somebody who died before he could take the task from here, or a
failover of its server has lost that it waits; and those that nobody wants any more. Whoever claims such a one does with
it what its record says.

Every control plane does; `unpark` is one script that takes a task out of the set of the parked once, so it does no harm
if several come at once.
"""

from datetime import timedelta

import structlog

from tailplane.broker import Broker, Outage, TaskRef
from tailplane.broker.logs import whose
from tailplane.broker.memory import CHILDREN, INBOX, INBOX_SEEN
from tailplane.broker.parking import Parked
from tailplane.broker.records import Parent
from tailplane.broker.store import Command
from tailplane.broker.wire import is_away, raise_refusals
from tailplane.control_plane.clock import Clock
from tailplane.control_plane.periodic import repeat
from tailplane.protocol import codec
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.states import State

MIND_EVERY = timedelta(milliseconds=500)
# Tasks in one round: of those that are due, and of those whose inboxes are looked at.
AT_ONCE = 500
# Rounds between two looks at inboxes. What they find was told to somebody who died before he could pass it on.
LOOK_EVERY = 10
_WAITING = State.WAITING.value.encode()

log = structlog.get_logger(__name__)


class ParkedMinder:
    """Minds the parked tasks of one deployment, for as long as it runs.

    Args:
        clock: says whose time to run again has come.

    Attributes:
        woken: how many it gave back because their time had come.
        found: how many because they had a message that they did not know of, or did not wait by their record.
        outage: whether Redis can't be asked.
    """

    def __init__(self, broker: Broker, clock: Clock, every: timedelta = MIND_EVERY) -> None:
        self._broker = broker
        self._clock = clock
        self._every = every
        self.woken = self.found = 0
        self.outage = Outage("minding parked tasks")
        self._rounds = 0
        self._skip = 0

    async def run(self) -> None:
        """Mind them until cancelled; Redis may come and go."""
        await repeat(self.mind, self._every, self.outage)

    async def mind(self) -> None:
        """Give back what is due; once in a while, look for missed messages, too.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        self.woken += await self.wake_due()
        self._rounds += 1
        if self._rounds % LOOK_EVERY == 0:
            self.found += await self.find_missed()

    async def wake_due(self) -> int:
        """Give back the tasks that have waited as long as they may; return how many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        parking, woken = self._broker.parking, 0
        while due := await parking.due(await self._clock.now_ms(), AT_ONCE):
            for parked in due:
                woken += await parking.unpark(parked)
            if len(due) < AT_ONCE:
                break
        return woken

    async def find_missed(self) -> int:
        """Give back tasks that have a message which their last attempt did not know of; return how many.

        So are those that do not wait by their record. Some of the parked in each call, the next ones in the next.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        parked = await self._broker.parking.page(self._skip, AT_ONCE)
        self._skip = self._skip + AT_ONCE if len(parked) == AT_ONCE else 0
        found = 0
        for each, why in await self._wrongly_parked(parked):
            # Of one that somebody else has taken since there is nothing to tell.
            if await self._broker.parking.unpark(each):
                log.warning("a parked task goes on", **whose(each.task), reason=why)
                found += 1
        return found

    async def _wrongly_parked(self, parked: list[Parked]) -> list[tuple[Parked, str]]:
        """Return those that should not lie there, and why."""
        if not parked:
            return []
        tasks = self._broker.tasks
        commands: list[Command] = [
            ("HMGET", tasks.keys.task(each.task), "state", INBOX, INBOX_SEEN, CHILDREN, "parent") for each in parked
        ]
        replies = await tasks.wire.call(commands)
        # The tasks of other shards go on.
        raise_refusals([reply for reply in replies if not is_away(reply)])
        found, started = [], []
        for each, reply in zip(parked, replies, strict=True):
            if is_away(reply):
                continue
            state, messages, seen, children, parent = reply
            # A task is parked after its record says that it waits, and begun after it has left this place.
            if state != _WAITING:
                found.append((each, f"its record says {state.decode() if state else 'nothing'}"))
            elif int(messages or 0) > int(seen or 0):
                found.append((each, "a message was missed"))
            elif children and await self._has_ended_child(each, children):
                found.append((each, "a child has ended"))
            elif parent:
                started.append((each, TaskRef(Parent(*codec.unpack(parent)).task_id, each.task.tenant)))
        return [*found, *await self._orphaned(started)]

    async def _orphaned(self, started: list[tuple[Parked, TaskRef]]) -> list[tuple[Parked, str]]:
        """Return those that nobody wants any more: the task that has started each has ended, and its worker could not
        cancel it. Begun again, such a one ends.
        """
        try:
            parents = await self._broker.tasks.read_many([parent for _, parent in started], ("state",))
        except StoreUnavailable as error:
            if not is_away(error):
                raise
            return []
        return [
            (each, "the task that started it has ended")
            for (each, _), parent in zip(started, parents, strict=True)
            if parent is None or parent.state.is_terminal
        ]

    async def _has_ended_child(self, parked: Parked, packed: bytes) -> bool:
        """Tell a task of a child that has ended, where whoever ended it has died before he could.

        False where it was told: its code waits for something else, and may never ask for that child again.
        """
        children = [TaskRef(child, parked.task.tenant) for child in codec.unpack(packed)]
        try:
            found = await self._broker.tasks.read_many(children, ("state",))
        except StoreUnavailable as error:
            if not is_away(error):
                raise
            # Its shard is another than its parent's: the other tasks go on.
            return False
        ended = [child for child, record in zip(children, found, strict=True) if not record or record.state.is_terminal]
        # All are told of, not the first one alone.
        return any([await self._broker.deliveries.note_ended(parked.task, child.task_id) for child in ended])
