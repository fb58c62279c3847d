"""What both Redis sides of Tailplane agree on: keys, Lua scripts, task store, event log, queue, catalogue."""

from tailplane.broker.backlog import Backlog
from tailplane.broker.beginning import Begun, HolderLost, StartTooLate, TimeIsUp
from tailplane.broker.broker import Broker
from tailplane.broker.claims import ALONE, Claim, Claims, Order, Room, Turn, Turned
from tailplane.broker.connection import connect, store_errors
from tailplane.broker.event_log import Append, Cut, Entry, EventLog, Refusal, parse_published
from tailplane.broker.fitness import RightsMissing, UnfitStore, mind_fitness, wait_until_fit
from tailplane.broker.joins import Join, Joins, SessionRef
from tailplane.broker.keys import Keys, TaskRef, queue_name, tenant_of, workflow_of
from tailplane.broker.outage import Outage
from tailplane.broker.queue import Enqueued, LeaseLapsed, Queue, Request
from tailplane.broker.records import NewTask, SessionRecord, TaskRecord, WorkerRecord, WorkflowRecord
from tailplane.broker.redis_cluster import connect_cluster
from tailplane.broker.shards import Shards
from tailplane.broker.store import ShardAway
from tailplane.broker.subscriptions import Hearing, Primary, Subscriptions
from tailplane.broker.tasks import Closing, Standing, TailMismatch, TaskStore
from tailplane.broker.tenants import TenantRecord, Tenants
from tailplane.broker.terms import PLAIN, Terms

__all__ = [
    "ALONE",
    "PLAIN",
    "Append",
    "Backlog",
    "Begun",
    "Broker",
    "Claim",
    "Claims",
    "Closing",
    "Cut",
    "Enqueued",
    "Entry",
    "EventLog",
    "Hearing",
    "HolderLost",
    "Join",
    "Joins",
    "Keys",
    "LeaseLapsed",
    "NewTask",
    "Order",
    "Outage",
    "Primary",
    "Queue",
    "Refusal",
    "Request",
    "RightsMissing",
    "Room",
    "SessionRecord",
    "SessionRef",
    "ShardAway",
    "Shards",
    "Standing",
    "StartTooLate",
    "Subscriptions",
    "TailMismatch",
    "TaskRecord",
    "TaskRef",
    "TaskStore",
    "TenantRecord",
    "Tenants",
    "Terms",
    "TimeIsUp",
    "Turn",
    "Turned",
    "UnfitStore",
    "WorkerRecord",
    "WorkflowRecord",
    "connect",
    "connect_cluster",
    "mind_fitness",
    "parse_published",
    "queue_name",
    "store_errors",
    "tenant_of",
    "wait_until_fit",
    "workflow_of",
]
