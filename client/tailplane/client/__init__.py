"""The client library of Tailplane: start workflows, and read what they produce while they run."""

from tailplane.client.client import Client
from tailplane.client.coalesce import Coalesced
from tailplane.client.models import ErrorInfo, SessionInfo, TaskStatus, WorkerInfo, WorkflowInfo
from tailplane.client.options import ClientOptions, ReconnectPolicy
from tailplane.client.rewinds import Rewind
from tailplane.client.session import Session
from tailplane.client.snapshots import Snapshots
from tailplane.client.stream import EventStream, ResultStream
from tailplane.client.sync import SyncClient, SyncSession, SyncStream, SyncTask
from tailplane.client.task import Task
from tailplane.protocol.errors import (
    BufferFull,
    ConnectionLost,
    CursorPastEnd,
    EventMismatch,
    IdempotencyConflict,
    InvalidCursor,
    InvalidId,
    InvalidInput,
    InvalidRequest,
    QueueFull,
    RequestError,
    ResultPending,
    SessionClosed,
    SessionNotFound,
    StoreUnavailable,
    StreamGap,
    StreamMalformed,
    TailplaneError,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskGone,
    TaskLost,
    TaskNotFound,
    TooLarge,
    Unavailable,
    UnknownWorkflow,
    Unserialisable,
)
from tailplane.protocol.events import Event
from tailplane.protocol.states import State

__all__ = [
    "BufferFull",
    "Client",
    "ClientOptions",
    "Coalesced",
    "ConnectionLost",
    "CursorPastEnd",
    "ErrorInfo",
    "Event",
    "EventMismatch",
    "EventStream",
    "IdempotencyConflict",
    "InvalidCursor",
    "InvalidId",
    "InvalidInput",
    "InvalidRequest",
    "QueueFull",
    "ReconnectPolicy",
    "RequestError",
    "ResultPending",
    "ResultStream",
    "Rewind",
    "Session",
    "SessionClosed",
    "SessionInfo",
    "SessionNotFound",
    "Snapshots",
    "State",
    "StoreUnavailable",
    "StreamGap",
    "StreamMalformed",
    "SyncClient",
    "SyncSession",
    "SyncStream",
    "SyncTask",
    "TailplaneError",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskGone",
    "TaskLost",
    "TaskNotFound",
    "TaskStatus",
    "TooLarge",
    "Unavailable",
    "UnknownWorkflow",
    "Unserialisable",
    "WorkerInfo",
    "WorkflowInfo",
]
