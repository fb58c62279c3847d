"""Everything of one deployment that Redis holds, wired together: what control planes and workers are given."""

from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from tailplane.broker.api_keys import ApiKeys
from tailplane.broker.catalogue import Catalogue
from tailplane.broker.deliveries import Deliveries
from tailplane.broker.event_log import EventLog
from tailplane.broker.inbox import Inbox
from tailplane.broker.joins import Joins
from tailplane.broker.keys import Keys
from tailplane.broker.parking import Parking
from tailplane.broker.queue import Queue
from tailplane.broker.revoked_tokens import RevokedTokens
from tailplane.broker.schedules import ScheduleStore
from tailplane.broker.session_state import SessionStates
from tailplane.broker.shard_bells import AnyNode, ShardBells
from tailplane.broker.shards import Shards
from tailplane.broker.store import Store
from tailplane.broker.subscriptions import Hearing, OnMessage, Primary, Subscriptions
from tailplane.broker.tasks import TaskStore
from tailplane.broker.tenants import Tenants
from tailplane.broker.usage import Usage
from tailplane.broker.wire import Wire


@dataclass(frozen=True, slots=True)
class Broker:
    """The stores of one deployment.

    Attributes:
        redis: the client of the server that has the queue and, without `shards`, everything.
        shards: the cluster that has the tasks' records and streams; None: there is none.
    """

    redis: Redis
    shards: Shards | None
    keys: Keys
    tasks: TaskStore
    log: EventLog
    queue: Queue
    catalogue: Catalogue
    inbox: Inbox
    parking: Parking
    deliveries: Deliveries
    schedules: ScheduleStore
    joins: Joins
    states: SessionStates
    api_keys: ApiKeys
    tenants: Tenants
    revoked_tokens: RevokedTokens
    usage: Usage

    @classmethod
    def over(
        cls,
        redis: Redis,
        *,
        prefix: str,
        retention: timedelta,
        start_within: timedelta,
        dead_letter_retention: timedelta = timedelta(),
        shards: Shards | None = None,
    ) -> "Broker":
        """Return the stores of the deployment whose keys begin with `prefix`.

        A failed task is kept for the longer one of `retention` and `dead_letter_retention`.
        """
        keys, wire = Keys(prefix), Wire(redis)
        streams: Store = wire if shards is None else shards
        inbox, queue, parking = Inbox(streams, keys), Queue(wire, keys, bells=Wire(redis)), Parking(wire, keys)
        return cls(
            redis=redis,
            shards=shards,
            keys=keys,
            tasks=TaskStore(streams, keys, retention, start_within, max(retention, dead_letter_retention)),
            log=EventLog(streams, keys),
            queue=queue,
            catalogue=Catalogue(wire, keys),
            inbox=inbox,
            parking=parking,
            deliveries=Deliveries(inbox, queue, parking),
            schedules=ScheduleStore(wire, keys),
            joins=Joins(wire, keys),
            states=SessionStates(wire, keys),
            api_keys=ApiKeys(wire, keys),
            tenants=Tenants(wire, keys),
            revoked_tokens=RevokedTokens(wire, keys),
            usage=Usage(wire, keys, retention),
        )

    def hear_bells(self, on_message: OnMessage) -> Hearing:
        """Return what hears the bells of streams; see `Hearing`."""
        if self.shards is None:
            return Subscriptions(Primary(self.redis), on_message)
        return ShardBells(self.shards.topology, on_message)

    def hear_ends(self, on_message: OnMessage) -> Hearing:
        """Return what hears that tasks have ended: told by the server that has the task; see `Hearing`."""
        return Subscriptions(Primary(self.redis) if self.shards is None else AnyNode(self.shards.topology), on_message)

    def hear_controls(self, on_message: OnMessage) -> Hearing:
        """Return what hears cancellations, which go by the queue's server; see `Hearing`."""
        return Subscriptions(Primary(self.redis), on_message)

    def hear_joins(self, on_message: OnMessage) -> Hearing:
        """Return what hears that tasks have joined sessions, or those were closed; see `Hearing`."""
        return Subscriptions(Primary(self.redis), on_message)

    async def record_servers(self) -> list[Redis]:
        """Return clients of the servers that have the tasks' records, each once.

        Raises:
            StoreUnavailable: no node of the cluster tells which.
        """
        return [self.redis] if self.shards is None else await self.shards.topology.primaries()

    async def answers(self) -> None:
        """Return if the queue's server answers, and of a cluster some node: the other shards' tasks can go on.

        Raises:
            StoreUnavailable: they do not.
        """
        await self.queue.wire.run("PING")
        if self.shards is not None:
            await self.shards.topology.refresh()
