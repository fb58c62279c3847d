"""Every Redis key of a deployment: its type, TTL and writer. No I/O.

Keys of one task carry the hash tag `{task_id}`, so that a task lives on one slot of a Redis Cluster, and so does its
bell. Keys of the queue carry `{queue}`: they live together on one primary. A channel is no key, and scripts do not name
it as one: a slot that moves would not serve a script of which one key seems to be missing. Every key begins with the
deployment's prefix. A `<queue>` is a workflow of the default tenant, or `<tenant>/<workflow>`.

    key                                    type     TTL                                      written by
    <prefix>:<tenant>:task:{<task>}        hash     start deadline + retention; none while    create, begin,
                                                    running, retention once ended             finish, end, append,
                                                                                              repair, deliver
    <prefix>:<tenant>:stream:{<task>}      stream   as the task's                             the same, and XADD
    <prefix>:<tenant>:bell:{<task>}        channel  -                                         whoever appended
    <prefix>:{queue}:due:<queue>           zset     none; a task's member leaves when claimed enqueue, requeue, reap,
                                                                                              claim, withdraw, admit
    <prefix>:{queue}:due-<class>:<queue>   zset     none; the same, of classes high and low   the same
    <prefix>:{queue}:terms                 hash     none; a field leaves with its task        the same, ack
    <prefix>:{queue}:blocked               zset     none; a member leaves when its key has    the same, ack
                                                    room
    <prefix>:{queue}:holders               zset     none; a member leaves with its claim      the same, ack
    <prefix>:{queue}:limits                hash     none; a field leaves when no task of its  the same, ack
                                                    key runs or is blocked
    <prefix>:{queue}:turns                 zset     none; a member leaves when its queue is   the same, fire, limits
                                                    found empty
    <prefix>:{queue}:tenants               hash     none; a field for each tenant             control planes
    <prefix>:{queue}:bell:<workflow>       list     1 minute                                  the same
    <prefix>:{queue}:workers               zset     none; a member leaves when reaped         register, renew, reap
    <prefix>:{queue}:worker:<worker>       hash     1 day, renewed by the lease               register, renew, reap
    <prefix>:{queue}:running:<worker>      hash     none; emptied by ack or reap              claim, ack, requeue, reap
    <prefix>:{queue}:parked                zset     none; a member leaves when unparked or    park, unpark, withdraw
                                                    cancelled
    <prefix>:{queue}:control:<worker>      channel  -                                         control planes
    <prefix>:{queue}:ends:<random>         channel  -                                         finish, end
    <prefix>:{queue}:workflows             hash     none; a field for each workflow           register
    <prefix>:{queue}:tasks:<tenant>        zset     none; members leave when found gone       enqueue, listing
    <prefix>:{queue}:gone:<tenant>         zset     none; trimmed by age                      listing
    <prefix>:{queue}:dead:<tenant>         zset     none; members leave when requeued,        note_dead, enqueue,
                                                    dropped or found gone                     drops, listing
    <prefix>:{queue}:request:<tenant>:<d>  string   24 hours; dead letters' retention where   enqueue, sessions, drops
                                                    <d> is one that it took off the list
    <prefix>:{queue}:schedule:<tenant>:<name>  hash  none; removed with the schedule          schedule, fire, pass_over,
                                                                                              pause, resume
    <prefix>:{queue}:schedules:<tenant>    zset     none; names                               schedule
    <prefix>:{queue}:schedules-due:<tenant>  zset   none; those that have a next due time     as the schedule's
    <prefix>:{queue}:session:<tenant>:<s>  hash     session's idle time                       sessions, enqueue, park
    <prefix>:{queue}:session-tasks:<tenant>:<s>  zset  as the session's                       enqueue
    <prefix>:{queue}:session-joins:<tenant>:<s>  stream  as the session's                     enqueue
    <prefix>:{queue}:session-state:<tenant>:<s>  hash  session's idle time                    set_state, enqueue
    <prefix>:{queue}:api-keys              zset     none; tenant and id of each API key      keys
    <prefix>:{queue}:api-key:<key>         hash     none; one that has ended stays, and is    keys, rotate_key,
                                                    known                                     revoke_key
    <prefix>:{queue}:revoked-tokens        stream   70 minutes after the last one             control planes
    <prefix>:{queue}:rate:<account>        string   until it has submitted nothing for long   take_submit
    <prefix>:{queue}:readers:<account>     hash     10 seconds, renewed each second           tell_readers
    <prefix>:{queue}:stored:<tenant>       hash     retention and a twelfth of it             note_stored
    <prefix>:{queue}:joined:<tenant>:<s>  channel  -                                          enqueue, sessions
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from tailplane.protocol.ids import DEFAULT_TENANT, KeyId, SessionId, TaskId, WorkerId, check_tenant
from tailplane.protocol.priorities import Priority

_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task's id and the tenant it belongs to: what its keys are made of, and what the queue holds."""

    task_id: TaskId
    tenant: str = DEFAULT_TENANT

    @property
    def member(self) -> str:
        """The form in which the queue holds it."""
        return f"{self.tenant}/{self.task_id}"

    @classmethod
    def from_member(cls, member: bytes) -> "TaskRef":
        """Return the task that a member of the queue names."""
        tenant, _, task_id = member.decode().partition("/")
        return cls(TaskId(task_id), tenant)


def queue_name(tenant: str, workflow: str) -> str:
    """Return the name of a tenant's queue of a workflow; the default tenant's is the workflow's own, as of old."""
    return workflow if tenant == DEFAULT_TENANT else f"{tenant}/{workflow}"


def workflow_of(queue: str) -> str:
    """Return the workflow whose tasks a queue has."""
    return queue.rpartition("/")[2]


def tenant_of(queue: str) -> str:
    """Return the tenant whose tasks a queue has."""
    return queue.rpartition("/")[0] or DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one deployment."""

    prefix: str = "tailplane"

    # Members of `turns` whose scores are versions, behind all names of queues, whose score is 0: of all that workers
    # are told, and of the tenants' limits alone, for who minds no queues.
    TURNS_VERSION: ClassVar = "~"
    LIMITS_VERSION: ClassVar = "~limits"

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(f"{self.prefix!r} is no key prefix: use 1-64 of letters, digits, _ . -")

    def task(self, task: TaskRef) -> str:
        """Return the key of the task's record."""
        return f"{self.prefix}:{task.tenant}:task:{{{task.task_id}}}"

    def stream(self, task: TaskRef) -> str:
        """Return the key of the task's stream."""
        return f"{self.prefix}:{task.tenant}:stream:{{{task.task_id}}}"

    def bell(self, task: TaskRef) -> str:
        """Return the channel that rings when the task's stream has grown."""
        return f"{self.prefix}:{task.tenant}:bell:{{{task.task_id}}}"

    def due(self, queue: str, priority: Priority = Priority.NORMAL) -> str:
        """Return the due set of a queue's tasks of one class: an arq queue, scored by the time each is due, in ms."""
        of_class = "" if priority is Priority.NORMAL else f"-{priority}"
        return f"{self.prefix}:{{queue}}:due{of_class}:{queue}"

    def queue_of(self, queue: str) -> list[str]:
        """Return a queue's due sets, the highest class first, and its workflow's doorbell: as scripts take them."""
        return [*(self.due(queue, priority) for priority in Priority), self.doorbell(workflow_of(queue))]

    @property
    def terms(self) -> str:
        """The terms of those tasks that have any; what is in this and the next four: `scripts/shared/terms.lua`."""
        return f"{self.prefix}:{{queue}}:terms"

    @property
    def blocked(self) -> str:
        """The tasks that are due and whose key is full, ordered by queue, key, class and since when they are due."""
        return f"{self.prefix}:{{queue}}:blocked"

    @property
    def holders(self) -> str:
        """The claims that hold a key, or count for a workflow's or tenant's bound: ordered by key, task and worker."""
        return f"{self.prefix}:{{queue}}:holders"

    @property
    def limits(self) -> str:
        """How many may run at once of each key, and which queues have tasks of it."""
        return f"{self.prefix}:{{queue}}:limits"

    @property
    def turns(self) -> str:
        """The queues of tenants other than the default one that have tasks, as `workflow/tenant`, and versions."""
        return f"{self.prefix}:{{queue}}:turns"

    @property
    def tenants(self) -> str:
        """What each tenant may take: name -> limits."""
        return f"{self.prefix}:{{queue}}:tenants"

    @property
    def of_terms(self) -> list[str]:
        """What scripts take that move tasks."""
        return [self.terms, self.blocked, self.holders, self.limits, self.turns]

    def doorbell(self, workflow: str) -> str:
        """Return the list whose tokens wake one idle worker each."""
        return f"{self.prefix}:{{queue}}:bell:{workflow}"

    @property
    def workers(self) -> str:
        """The leases: worker ids scored by the server time, in ms, at which each lease ends."""
        return f"{self.prefix}:{{queue}}:workers"

    def worker(self, worker: WorkerId) -> str:
        """Return the key of what a worker says of itself."""
        return f"{self.prefix}:{{queue}}:worker:{worker}"

    def running(self, worker: WorkerId) -> str:
        """Return the key of the tasks that a worker holds, each with its queue."""
        return f"{self.prefix}:{{queue}}:running:{worker}"

    @property
    def parked(self) -> str:
        """The tasks that wait for a message without a worker, scored by when they run again anyway, in ms."""
        return f"{self.prefix}:{{queue}}:parked"

    def control(self, worker: WorkerId) -> str:
        """Return the channel on which a worker hears of cancellations."""
        return f"{self.prefix}:{{queue}}:control:{worker}"

    def ends(self, listener: str) -> str:
        """Return the channel on which one control plane hears of the ends that it waits for."""
        return f"{self.prefix}:{{queue}}:ends:{listener}"

    @property
    def workflows(self) -> str:
        """What the workers have registered: name -> description."""
        return f"{self.prefix}:{{queue}}:workflows"

    def tasks(self, tenant: str) -> str:
        """Return the index of a tenant's tasks: scored alike, so ordered by id, which is by time."""
        return f"{self.prefix}:{{queue}}:tasks:{check_tenant(tenant)}"

    def gone(self, tenant: str) -> str:
        """Return the index of tasks whose retention has passed, scored by when that was found, in ms."""
        return f"{self.prefix}:{{queue}}:gone:{check_tenant(tenant)}"

    def dead(self, tenant: str) -> str:
        """Return the list of a tenant's dead letters: failed tasks, ordered as the index of tasks."""
        return f"{self.prefix}:{{queue}}:dead:{check_tenant(tenant)}"

    def request(self, tenant: str, digest: str) -> str:
        """Return the key that remembers what an idempotency key made."""
        return f"{self.prefix}:{{queue}}:request:{check_tenant(tenant)}:{digest}"

    def schedule(self, tenant: str, name: str) -> str:
        """Return the key of a schedule."""
        return f"{self.prefix}:{{queue}}:schedule:{check_tenant(tenant)}:{name}"

    def schedules(self, tenant: str) -> str:
        """Return the index of a tenant's schedules: scored alike, so ordered by name."""
        return f"{self.prefix}:{{queue}}:schedules:{check_tenant(tenant)}"

    def schedules_due(self, tenant: str) -> str:
        """Return the schedules that have a next due time, scored by it, in ms."""
        return f"{self.prefix}:{{queue}}:schedules-due:{check_tenant(tenant)}"

    def session(self, tenant: str, session: SessionId) -> str:
        """Return the key of a session's record."""
        return f"{self.prefix}:{{queue}}:session:{check_tenant(tenant)}:{session}"

    def session_tasks(self, tenant: str, session: SessionId) -> str:
        """Return the index of a session's tasks, ordered as the tenant's."""
        return f"{self.prefix}:{{queue}}:session-tasks:{check_tenant(tenant)}:{session}"

    def session_joins(self, tenant: str, session: SessionId) -> str:
        """Return the list of a session's tasks in the order in which they joined it: entry `0-n` is the n-th."""
        return f"{self.prefix}:{{queue}}:session-joins:{check_tenant(tenant)}:{session}"

    def session_state(self, tenant: str, session: SessionId) -> str:
        """Return what a session's tasks share: of each key its version and value."""
        return f"{self.prefix}:{{queue}}:session-state:{check_tenant(tenant)}:{session}"

    def joined(self, tenant: str, session: SessionId) -> str:
        """Return the channel that rings when a task has joined a session, or it was closed."""
        return f"{self.prefix}:{{queue}}:joined:{check_tenant(tenant)}:{session}"

    @property
    def api_keys(self) -> str:
        """The index of all API keys: `tenant/key` each, scored alike, so ordered by tenant and then by time."""
        return f"{self.prefix}:{{queue}}:api-keys"

    def api_key(self, key: KeyId) -> str:
        """Return the key of what is kept of an API key."""
        return f"{self.prefix}:{{queue}}:api-key:{key}"

    @property
    def revoked_tokens(self) -> str:
        """Return the stream of the stream tokens that were revoked before their time."""
        return f"{self.prefix}:{{queue}}:revoked-tokens"

    def rate(self, account: str) -> str:
        """Return the key of how much of its submits a tenant or API key has used up; no tenant has a key's id."""
        return f"{self.prefix}:{{queue}}:rate:{account}"

    def readers(self, account: str) -> str:
        """Return the key of how many streams of a tenant or API key each control plane has open."""
        return f"{self.prefix}:{{queue}}:readers:{account}"

    def stored(self, tenant: str) -> str:
        """Return the key of how many bytes a tenant's tasks have written: since when -> how many."""
        return f"{self.prefix}:{{queue}}:stored:{check_tenant(tenant)}"
