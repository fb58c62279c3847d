"""arq's client, enqueueing the way Tailplane does. The only module of the control plane that imports arq.

arq's own `enqueue_job` pickles the call into a key and adds the job to one queue, which workers poll. Here the call is
the task's record, which exists already; the job's id is the task; there is one sorted set per workflow and class; and
one script (`broker/scripts/enqueue.lua`) adds the task, remembers the request and rings the doorbell that wakes a
worker.
"""

from datetime import timedelta
from typing import Any

from arq.connections import ArqRedis
from arq.jobs import Job

from tailplane.broker import PLAIN, Keys, Queue, Request, TaskRef, Terms, connect, queue_name
from tailplane.broker.wire import Wire
from tailplane.protocol import codec
from tailplane.protocol.errors import IdempotencyConflict
from tailplane.protocol.ids import SessionId, TaskId


class QueuedJob(Job):
    """The job of a task that waits.

    Attributes:
        depth: how many tasks wait in the queue with it; None: it was queued before.
    """

    depth: int | None = None


class TaskQueue(ArqRedis):
    """A client of Redis whose `enqueue_job` queues recorded tasks.

    Attributes:
        tasks: the queue of its deployment. (Not `queue` or `keys`: arq and Redis have other uses for these.)
    """

    tasks: Queue

    async def enqueue_job(  # type: ignore[override]  # narrower on purpose: no arguments travel, the record has them
        self,
        function: str,
        *,
        _job_id: str,
        _defer_by: timedelta = timedelta(),
        session: SessionId | None = None,
        request: Request | None = None,
        limit: int | None = None,
        requeue_of: TaskId | None = None,
        terms: Terms = PLAIN,
    ) -> QueuedJob:
        """Queue a recorded task, once per request.

        Args:
            function: name of the workflow.
            _job_id: the task, as `TaskRef.member`.
            _defer_by: how long until it is due.
            session: the session it belongs to.
            request: the idempotency key it came with.
            limit: how many tasks of its tenant may wait in the workflow's queue; None: any number.
            requeue_of: the dead letter that it does again.
            terms: on which it is claimed.

        Returns:
            The job of the task that stands for the request: another one where the key came before.

        Raises:
            IdempotencyConflict: the key came before, with another request.
            SessionNotFound, SessionClosed: the session takes no tasks.
            QueueFull: so many tasks wait already.
            StoreUnavailable: Redis does not answer. Whether the task was queued is not known then.
        """
        task = TaskRef.from_member(_job_id.encode())
        standing = await self.tasks.enqueue(
            task,
            function,
            delay=_defer_by,
            session=session,
            request=request,
            limit=limit,
            requeue_of=requeue_of,
            terms=terms,
        )
        if request and standing.content != request.content:
            raise IdempotencyConflict("this idempotency key came before, with another request")
        member = TaskRef(standing.task_id, task.tenant).member
        due = self.tasks.keys.due(queue_name(task.tenant, function))
        job = QueuedJob(member, redis=self, _queue_name=due, _deserializer=self.job_deserializer)
        job.depth = standing.depth
        return job


def open_queue(url: str, prefix: str, **options: Any) -> TaskQueue:
    """Return the queue of the deployment whose keys begin with `prefix`; it connects when first used."""
    queue = connect(url, TaskQueue, **options)
    # arq's own would unpickle whatever somebody has put into its keys, where anybody asks it for a job.
    queue.job_serializer, queue.job_deserializer = codec.pack, codec.unpack
    queue.tasks = Queue(Wire(queue), Keys(prefix), bells=Wire(queue))
    return queue
