"""Submitting a task: check, record, queue; in this order, so that the queue never names a task that is not recorded."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import structlog

from tailplane.broker import Broker, NewTask, Request, TaskRecord, TaskRef, Terms, WorkflowRecord
from tailplane.broker.logs import whose
from tailplane.broker.records import SUMMARY_FIELDS, Fired
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.depths import Depth, Depths
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.limiter import Allowance, Limiter
from tailplane.control_plane.lookup import find_task
from tailplane.control_plane.queue import TaskQueue
from tailplane.control_plane.stored import StoredBytes
from tailplane.control_plane.tracing import enqueuing
from tailplane.control_plane.validation import InputValidation
from tailplane.control_plane.workflow_registry import WorkflowRegistry
from tailplane.protocol import codec
from tailplane.protocol.errors import IdempotencyConflict, QueueFull, QuotaExceeded, RateLimited, RequestError
from tailplane.protocol.ids import SessionId, TaskId
from tailplane.protocol.priorities import Priority

log = structlog.get_logger(__name__)


_NOTHING: Mapping[str, str] = MappingProxyType({})


class Submission(NamedTuple):
    """What a caller wants to be run.

    Attributes:
        trace: the caller's W3C trace context.
        request: the idempotency key it came with.
        task: the id that the task is to have, if it is made; None: any.
        waiting: the channel on which somebody waits for its end.
        requeue_of: the dead letter that the task does again.
        delay: how long to put its start off.
        fired: the schedule that somebody triggered.
        priority: its class; None: the workflow's.
        concurrency_key, concurrency_limit: as of `Terms`.
        allowance: of whom a submit is taken; None: of nobody.
    """

    workflow: str
    input: Any
    metadata: Mapping[str, str] = _NOTHING
    session: SessionId | None = None
    trace: Mapping[str, str] = _NOTHING
    request: Request | None = None
    task: TaskRef | None = None
    waiting: str | None = None
    requeue_of: TaskId | None = None
    delay: timedelta = timedelta()
    fired: Fired | None = None
    priority: Priority | None = None
    concurrency_key: str | None = None
    concurrency_limit: int = 1
    allowance: Allowance | None = None

    @property
    def hides_input(self) -> bool:
        """Whether the input is one that is stored, and not told to the caller."""
        is_stored = self.requeue_of is not None or self.fired is not None
        return is_stored and self.allowance is not None and not self.allowance.caller.may_read


class Submitter:
    """Takes tasks of one deployment.

    Args:
        tenants: tell how many tasks may wait.
    """

    def __init__(
        self,
        broker: Broker,
        queue: TaskQueue,
        registry: WorkflowRegistry,
        limiter: Limiter,
        stored: StoredBytes,
        tenants: KnownTenants,
        counts: Counts,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._registry = registry
        self._limiter = limiter
        self._stored = stored
        self._tenants = tenants
        self._counts = counts
        self._depths = Depths(broker.queue)
        self._validation = InputValidation()

    async def submit(self, tenant: str, wanted: Submission) -> TaskRecord:
        """Queue a task, once per request; return the record of the task that stands for the request.

        Raises:
            UnknownWorkflow, InvalidInput, Unserialisable: it can't be run.
            SessionNotFound, SessionClosed: the session takes no tasks.
            IdempotencyConflict: the idempotency key came before, with another request.
            QueueFull: too many tasks of the tenant and workflow wait.
            RateLimited, QuotaExceeded: the caller may submit nothing now.
            TaskGone: the key came before, and what it made has been removed since.
            StoreUnavailable: Redis does not answer. It may have been queued: an idempotency key makes it safe to ask
                again.
        """
        try:
            workflow = await self._registry.find(wanted.workflow)
            self._validation.check(workflow, wanted.input, is_hidden=wanted.hides_input)
        except RequestError:
            # It fitted when it came the first time, if it did: that answer stands.
            if (standing := await self._remembered(tenant, wanted.request)) is not None:
                return await find_task(self._broker, standing, SUMMARY_FIELDS)
            raise
        await self._take(wanted, tenant)
        depth = await self._depths.of(tenant, workflow.name, await self._tenants.max_queued(tenant))
        ref = wanted.task or self._broker.tasks.draw(tenant)
        with depth.joining() as position, enqueuing(ref, workflow.name, wanted.session, wanted.trace) as trace:
            task = NewTask(
                ref=ref,
                workflow=workflow.name,
                version=workflow.version,
                input=codec.pack(wanted.input),
                session_id=wanted.session,
                metadata=wanted.metadata,
                trace=trace,
                waiting=wanted.waiting,
                start_within=workflow.start_within,
                position=position,
                requeue_of=wanted.requeue_of,
                delay=wanted.delay,
                fired=wanted.fired,
                terms=_terms(wanted, workflow),
            )
            # The answer is what was recorded, however fast a worker is.
            record = await self._broker.tasks.create(task)
            standing = await self._enqueue(task, wanted.request, depth)
        if standing != task.ref:
            return await find_task(self._broker, standing, SUMMARY_FIELDS)
        log.debug("task queued", **whose(record.ref), workflow=record.workflow)
        return record

    async def check(self, workflow: str, value: Any) -> None:
        """Let an input pass that a workflow takes.

        Raises:
            UnknownWorkflow, InvalidInput: it can't be run.
        """
        self._validation.check(await self._registry.find(workflow), value)

    async def _take(self, wanted: Submission, tenant: str) -> None:
        """Take a submit of the caller's allowance, before anything is recorded."""
        if wanted.allowance is not None:
            try:
                await self._limiter.take(wanted.allowance, wanted.request)
            except (RateLimited, QuotaExceeded) as error:
                self._counts.note_refused(wanted.workflow, tenant, error)
                raise

    async def _remembered(self, tenant: str, request: Request | None) -> TaskRef | None:
        made = await self._broker.queue.made_by(tenant, request) if request else None
        if request is None or made is None:
            return None
        task_id, content = made
        if content != request.content:
            raise IdempotencyConflict("this idempotency key came before, with another request")
        return TaskRef(task_id, tenant)

    async def _enqueue(self, task: NewTask, request: Request | None, depth: Depth) -> TaskRef:
        try:
            job = await self._queue.enqueue_job(
                task.workflow,
                _job_id=task.ref.member,
                _defer_by=task.delay,
                session=task.session_id,
                request=request,
                limit=depth.limit,
                requeue_of=task.requeue_of,
                terms=task.terms,
            )
        except QueueFull as full:
            self._counts.note_refused(task.workflow, task.ref.tenant, full)
            depth.tell(full.depth)
            full.retry_after = depth.wait_when_full()
            await self._broker.tasks.discard(task.ref)
            raise
        except RequestError:
            await self._broker.tasks.discard(task.ref)
            raise
        if job.depth is not None:
            self._counts.note_submitted(task.workflow, task.ref.tenant)
            self._stored.note(task.ref.tenant, len(task.input))
            depth.tell(job.depth)
            return task.ref
        standing = TaskRef.from_member(job.job_id.encode())
        if standing != task.ref:
            await self._broker.tasks.discard(task.ref)
        return standing


def _terms(wanted: Submission, workflow: WorkflowRecord) -> Terms:
    priority = wanted.priority or Priority(workflow.priority)
    return Terms(priority, wanted.concurrency_key, wanted.concurrency_limit)
