"""What both Redis sides of Tailplane agree on: keys, Lua scripts, task store, event log, queue, catalogue."""

from tailplane.broker.broker import Broker
from tailplane.broker.connection import connect, store_errors
from tailplane.broker.event_log import Append, Cut, Entry, EventLog, Refusal, parse_published
from tailplane.broker.fitness import RightsMissing, UnfitStore, mind_fitness, wait_until_fit
from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.outage import Outage
from tailplane.broker.queue import Backlog, Claim, Claims, Enqueued, LeaseLapsed, Queue, Request
from tailplane.broker.records import NewTask, SessionRecord, TaskRecord, WorkerRecord, WorkflowRecord
from tailplane.broker.subscriptions import Subscriptions
from tailplane.broker.tasks import Begun, Closing, HolderLost, StartTooLate, TailMismatch, TaskStore, TimeIsUp

__all__ = [
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
    "HolderLost",
    "Keys",
    "LeaseLapsed",
    "NewTask",
    "Outage",
    "Queue",
    "Refusal",
    "Request",
    "RightsMissing",
    "SessionRecord",
    "StartTooLate",
    "Subscriptions",
    "TailMismatch",
    "TaskRecord",
    "TaskRef",
    "TaskStore",
    "TimeIsUp",
    "UnfitStore",
    "WorkerRecord",
    "WorkflowRecord",
    "connect",
    "mind_fitness",
    "parse_published",
    "store_errors",
    "wait_until_fit",
]
