"""Everything of one deployment that Redis holds, wired together: what control planes and workers are given."""

from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from tailplane.broker.catalogue import Catalogue
from tailplane.broker.event_log import EventLog
from tailplane.broker.keys import Keys
from tailplane.broker.queue import Queue
from tailplane.broker.tasks import TaskStore
from tailplane.broker.wire import Wire


@dataclass(frozen=True, slots=True)
class Broker:
    """The stores of one deployment, over one client of Redis."""

    redis: Redis
    keys: Keys
    tasks: TaskStore
    log: EventLog
    queue: Queue
    catalogue: Catalogue

    @classmethod
    def over(
        cls,
        redis: Redis,
        *,
        prefix: str,
        retention: timedelta,
        start_within: timedelta,
        dead_letter_retention: timedelta = timedelta(),
    ) -> "Broker":
        """Return the stores of the deployment whose keys begin with `prefix`.

        A failed task is kept for the longer one of `retention` and `dead_letter_retention`.
        """
        keys, wire = Keys(prefix), Wire(redis)
        return cls(
            redis=redis,
            keys=keys,
            tasks=TaskStore(wire, keys, retention, start_within, max(retention, dead_letter_retention)),
            log=EventLog(wire, keys),
            queue=Queue(wire, keys, bells=Wire(redis)),
            catalogue=Catalogue(wire, keys),
        )
