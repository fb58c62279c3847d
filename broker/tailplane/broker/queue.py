"""The queue: who may run which task next. Shared by both arq subclasses; imports no arq.

A queue is of one tenant and workflow (`keys.queue_name`); the doorbell is the workflow's. A task's id is in exactly one
place: a due set of its queue (arq's sorted sets, one of each class), the blocked tasks
(due, but its concurrency key is full), the parked ones (`parking.py`), or the running set of one worker. A worker holds
a lease, not the task: when the lease ends, a reaper gives the worker's whole running set back.
Which worker holds an *attempt* is decided by the task's own record (`tasks.py`), since the two may live on two servers.

A task's terms (`terms.py`) are kept beside these places from `enqueue` until it is acknowledged or withdrawn, wherever
it is. A script that takes a task out of a running set does so by `leave`, which lets go of its key, and one that gives
a task to its due set by `give`; both are in `scripts/shared/terms.lua`, and a further place needs no more than these.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from datetime import timedelta
from typing import Any

from tailplane.broker import scripts
from tailplane.broker.backlog import Looks
from tailplane.broker.claims import ALONE, Claim, Claims, Order, Room, ask, read_reply
from tailplane.broker.connection import COMMAND_DEADLINE
from tailplane.broker.keys import TaskRef, queue_name, workflow_of
from tailplane.broker.moves import move, move_many
from tailplane.broker.records import WorkerRecord, WorkflowRecord, parse_flat
from tailplane.broker.store import Command
from tailplane.broker.terms import PLAIN, Terms
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol import codec
from tailplane.protocol.errors import QueueFull, SessionClosed, SessionNotFound, TailplaneError
from tailplane.protocol.ids import SessionId, TaskId, WorkerId

REQUEST_MEMORY = timedelta(hours=24)
# How long a session stays after its last task was due, and for how long at the most for one that waits.
SESSION_IDLE = timedelta(hours=24)
SESSION_WAIT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Request:
    """An idempotency key's digest, a digest of the request that came with it, and how long both are remembered."""

    key: str
    content: str
    kept: timedelta = REQUEST_MEMORY


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What stands for a request to queue a task.

    Attributes:
        task_id: the task; another one where the idempotency key was used before.
        content: the digest of the request that made it; empty where that had no idempotency key.
        depth: how many tasks of its tenant wait in the workflow's queue with it; None where it was queued before.
    """

    task_id: TaskId
    content: str
    depth: int | None


class LeaseLapsed(TailplaneError):
    """The worker's lease has run out: its tasks may be in other hands."""

    code = "lease_lapsed"
    title = "The worker's lease has run out"


@dataclass(frozen=True, slots=True)
class Queue(Looks):
    """The queue of one deployment. Every method raises StoreUnavailable when Redis does not answer.

    Attributes:
        bells: the connection on which `wait` waits, one caller at a time: a command that blocks holds up all others.
    """

    bells: Wire

    async def enqueue(
        self,
        task: TaskRef,
        workflow: str,
        *,
        delay: timedelta = timedelta(),
        session: SessionId | None = None,
        request: Request | None = None,
        limit: int | None = None,
        requeue_of: TaskId | None = None,
        terms: Terms = PLAIN,
    ) -> Enqueued:
        """Queue a recorded task, once per request.

        Args:
            terms: a limit that it brings along is its key's from now on.
            limit: how many tasks of its tenant may wait in the workflow's queue, this one included; None: any number.
                Tasks that come back for another attempt are not asked, so that there may be more.
            requeue_of: the dead letter that the task does again: it leaves the list.
        Raises:
            SessionNotFound, SessionClosed: the session takes no tasks.
            QueueFull: so many wait already.
        """
        memory = codec.pack([task.task_id, request.content]) if request else b""
        queue = queue_name(task.tenant, workflow)
        reply = await self._run(
            scripts.ENQUEUE,
            [
                *self.keys.of_terms,
                self.keys.tasks(task.tenant),
                self.keys.request(task.tenant, request.key if request else "-"),
                self.keys.session(task.tenant, session or SessionId("-")),
                self.keys.session_tasks(task.tenant, session or SessionId("-")),
                self.keys.dead(task.tenant),
                *self.keys.queue_of(queue),
                self.keys.session_joins(task.tenant, session or SessionId("-")),
                self.keys.session_state(task.tenant, session or SessionId("-")),
            ],
            [
                task.member,
                task.task_id,
                _ms(delay),
                memory,
                _ms(request.kept if request else REQUEST_MEMORY),
                _ms(SESSION_IDLE + delay) if session else 0,
                limit or 0,
                requeue_of or "",
                queue,
                terms.priority.rank,
                f"{task.tenant}/{terms.concurrency_key}" if terms.concurrency_key is not None else "",
                terms.concurrency_limit,
                self.keys.joined(task.tenant, session or SessionId("-")),
            ],
        )
        match reply[0]:
            case b"known":
                task_id, content = codec.unpack(reply[1])
                return Enqueued(TaskId(task_id), content, None)
            case b"full":
                raise QueueFull(
                    f"{reply[1]:,} tasks of {workflow} wait, and {limit:,} are taken",
                    depth=reply[1],
                    limit=limit or 0,
                    workflow=workflow,
                )
            case b"closed":
                raise SessionClosed(f"session {session} is closed", session_id=session)
            case b"missing":
                raise SessionNotFound(f"there is no session {session}", session_id=session)
            case _:
                return Enqueued(task.task_id, request.content if request else "", reply[1])

    async def made_by(self, tenant: str, request: Request) -> tuple[TaskId, str] | None:
        """Return the task that an idempotency key has made, and the digest of the request that came with it."""
        memory = await self.wire.run("GET", self.keys.request(tenant, request.key))
        if memory is None:
            return None
        task_id, content = codec.unpack(memory)
        return TaskId(task_id), content

    async def claim(self, worker: WorkerId, free: int, room: Mapping[str, int | Room], order: Order = ALONE) -> Claims:
        """Take up to `free` due tasks, of each workflow as it has room; not more than `MOST_CLAIMED` at once.

        Tenants are served as `order` says. Of a tenant a higher class goes first, and in a class the longest due; but
        of all that a worker takes of it each `IN_TURN`th is the one that has been due for longest, whatever its class.

        Raises:
            LeaseLapsed: the worker has no lease.
        """
        reply = await self._run(scripts.CLAIM, *ask(self.keys, worker, free, room, order))
        if reply[0] == b"lapsed":
            raise LeaseLapsed
        return read_reply(reply)

    async def wait(self, workflows: Sequence[str], at_most: timedelta) -> None:
        """Return when a task is queued for one of these workflows, or after `at_most`. One caller at a time.

        Never waits longer than half the deadline of a command, past which Redis would count as away.
        """
        bells = [self.keys.doorbell(workflow) for workflow in workflows]
        seconds = min(at_most.total_seconds(), COMMAND_DEADLINE / 2)
        try:
            # 0 would mean for ever.
            await self.bells.run("BLPOP", *bells, str(max(0.05, seconds)))
        except asyncio.CancelledError:
            # Redis would go on waiting for it, and keep the next token.
            self.bells.abandon()
            raise

    async def acknowledge(self, worker: WorkerId, *claims: Claim) -> None:
        """Forget claimed tasks that need no more running."""
        running = self.keys.running(worker)
        if plain := [claim.task.member for claim in claims if not claim.has_terms]:
            await self.wire.run("HDEL", running, *plain)
        calls = [([claim.task.member, worker], [claim.queue]) for claim in claims if claim.has_terms]
        if calls:
            await move_many(self.wire, self.keys, scripts.ACKNOWLEDGE, [running], calls)

    async def requeue(self, worker: WorkerId, claim: Claim, delay: timedelta) -> bool:
        """Give a claimed task back, due after `delay`; False if the worker holds it no more."""
        args = [claim.task.member, _ms(delay), worker]
        return bool(await self._move(scripts.REQUEUE, [self.keys.running(worker)], args, [claim.queue]))

    async def withdraw(self, task: TaskRef, workflow: str, worker: WorkerId | None) -> None:
        """Take an ended task out of its queue, from among the parked, and of the set of the worker that had it."""
        names = [self.keys.running(worker or WorkerId("-")), self.keys.parked]
        await self._move(scripts.WITHDRAW, names, [task.member, worker or ""], [queue_name(task.tenant, workflow)])

    async def admit(self, limit: int, after: int = 0) -> tuple[int, int]:
        """Give back to their due sets tasks that wait for keys that have room; return how many, and where to go on.

        Whoever leaves a key lets the next one in. This makes up for what nobody leaves for: a limit that was raised.

        Args:
            limit: how many keys are looked at, about.
            after: where the look before this one has stopped; 0: at the end, as is what is returned.
        """
        next_, found = await self.wire.run("HSCAN", self.keys.limits, after, "COUNT", limit)
        calls = [([key], [name.decode() for name in said.split(b"\n")[1:]]) for key, said in _pairs(found)]
        return sum(await move_many(self.wire, self.keys, scripts.ADMIT, [], calls)), int(next_)

    async def _move(
        self, script: scripts.Script, names: Sequence[str], args: Sequence[Any], queues: Sequence[str]
    ) -> int:
        return await move(self.wire, self.keys, script, names, args, queues)

    async def tell_cancel(self, worker: WorkerId, task: TaskRef, reason: str | None) -> None:
        """Tell a worker that a task it runs is cancelled. Not certain to arrive."""
        await self.wire.run("PUBLISH", self.keys.control(worker), codec.pack([task.member, reason]))

    async def tell_message(self, worker: WorkerId, task: TaskRef) -> None:
        """Tell a worker that a message has come for a task it runs. Not certain to arrive."""
        await self.wire.run("PUBLISH", self.keys.control(worker), codec.pack([task.member, None, "message"]))

    async def held(self, worker: WorkerId) -> dict[TaskRef, str]:
        """Return the tasks in a worker's running set, each with its workflow."""
        rows = await self.wire.run("HGETALL", self.keys.running(worker))
        return {TaskRef.from_member(rows[i]): workflow_of(_queue_of(rows[i + 1])) for i in range(0, len(rows), 2)}

    async def register(self, worker: WorkerRecord, workflows: Sequence[WorkflowRecord], lease: timedelta) -> None:
        """Enter a worker and its workflows; its lease begins."""
        described = {
            "host": worker.host, "pid": worker.pid, "version": worker.version,
            "workflows": worker.workflows, "concurrency": worker.concurrency,
        }  # fmt: skip
        args: list[Any] = [worker.worker_id, _ms(lease), codec.pack(described)]
        for workflow in workflows:
            args += [workflow.name, codec.pack(asdict(workflow))]
        await self._run(
            scripts.REGISTER, [self.keys.workers, self.keys.worker(worker.worker_id), self.keys.workflows], args
        )

    async def renew(self, worker: WorkerId, lease: timedelta) -> int:
        """Renew a worker's lease; return how many tasks it holds.

        Raises:
            LeaseLapsed: it had run out.
        """
        held: int = await self._run(
            scripts.RENEW,
            [self.keys.workers, self.keys.worker(worker), self.keys.running(worker)],
            [worker, _ms(lease)],
        )
        if held < 0:
            raise LeaseLapsed
        return held

    async def lapsed(self) -> list[WorkerId]:
        """Return the workers whose lease has run out."""
        rows = await self.wire.run("ZRANGEBYSCORE", self.keys.workers, "-inf", f"({await self.now_ms()}")
        return [WorkerId(row.decode()) for row in rows]

    async def reap(self, worker: WorkerId, *, leaves: bool = False) -> int:
        """Give back what a worker held whose lease has run out, or who leaves; return how many tasks.

        -1 if its lease is alive.
        """
        held = await self.wire.run("HVALS", self.keys.running(worker))
        return await self._move(
            scripts.REAP,
            [self.keys.workers, self.keys.worker(worker), self.keys.running(worker)],
            [worker, int(leaves)],
            sorted({_queue_of(value) for value in held}),
        )

    async def workflows(self) -> dict[str, WorkflowRecord]:
        """Return what the workers have registered, by name."""
        rows = parse_flat(await self.wire.run("HGETALL", self.keys.workflows))
        return {name: WorkflowRecord(**_known(WorkflowRecord, row)) for name, row in sorted(rows.items())}

    async def workflow(self, name: str) -> WorkflowRecord | None:
        """Return what the workers have registered of one workflow; None: none has."""
        row = await self.wire.run("HGET", self.keys.workflows, name)
        return WorkflowRecord(**_known(WorkflowRecord, row)) if row else None

    async def workers(self) -> list[WorkerRecord]:
        """Return the workers that have a lease, or had one and were not reaped yet."""
        now = await self.now_ms()
        rows = await self.wire.run("ZRANGE", self.keys.workers, 0, -1, "WITHSCORES")
        leases = [(WorkerId(rows[i].decode()), int(float(rows[i + 1]))) for i in range(0, len(rows), 2)]
        if not leases:
            return []
        commands: list[Command] = []
        for worker, _ in leases:
            commands += [("HGETALL", self.keys.worker(worker)), ("HLEN", self.keys.running(worker))]
        said = await self.wire.call(commands)
        raise_refusals(said)
        return [
            _parse_worker(worker, parse_flat(fields), running, lease - now)
            for (worker, lease), fields, running in zip(leases, said[::2], said[1::2], strict=True)
            if fields
        ]

    async def _run(self, script: scripts.Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await script.run(self.wire, keys, args)


def _parse_worker(worker: WorkerId, fields: Mapping[str, bytes], running: int, lease_ms: int) -> WorkerRecord:
    return WorkerRecord(
        worker_id=worker,
        started_at=int(fields["started_at"]) / 1000,
        running=running,
        lease_ms=lease_ms,
        **_known(WorkerRecord, fields["description"]),
    )


def _known(record: type[WorkerRecord | WorkflowRecord], packed: bytes) -> dict[str, Any]:
    # A newer worker may say more than this program knows.
    names = {field.name for field in dataclass_fields(record)}
    return {name: value for name, value in codec.unpack(packed).items() if name in names}


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _queue_of(value: bytes) -> str:
    # A second line is the key that the task holds.
    return value.partition(b"\n")[0].decode()


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
