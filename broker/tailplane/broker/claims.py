"""What a worker asks of the queue when it looks for tasks, and what it is told: `scripts/claim.lua` in Python's words.

A worker says which tenants' queues it knows of, and how each tenant stands with it; where there are others it is told
(`Turned`) and asks again. Who keeps account of the tenants is the worker (`workers/turns.py`): the queue has no state
of it, and each worker is fair by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from tailplane.broker.keys import Keys, TaskRef, queue_name
from tailplane.broker.tenants import TenantRecord, parse_tenant
from tailplane.protocol.ids import DEFAULT_TENANT, WorkerId

# What one script moves at a time: others wait for so long.
MOST_CLAIMED = 500
# Of ten tasks that a worker takes of a tenant one is taken whatever its class: with all workers busy for good, low ones
# still get a tenth of what there is, and high ones are done a tenth later.
IN_TURN = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that a worker took out of the queue. `waited` is how long it was due.

    Attributes:
        has_terms: whether the queue keeps more of it than its place, which its end must tidy up.
    """

    task: TaskRef
    workflow: str
    waited: timedelta
    has_terms: bool = False

    @property
    def queue(self) -> str:
        """The name of the queue that it came from."""
        return queue_name(self.task.tenant, self.workflow)


@dataclass(frozen=True, slots=True)
class Room:
    """How many more tasks of a workflow a worker takes, and how many may run in the whole fleet; None: any number."""

    places: int
    max_running: int | None = None


class Turn(NamedTuple):
    """How a tenant stands with a worker.

    Attributes:
        workflows: those of which the worker knows that the tenant has tasks; of the default tenant all are looked at.
        at: its virtual time: who has the least goes first, among equals who is named first.
        cost: by how much a task raises it.
        taken: how many of its tasks the worker took before; by it each class has its turn.
        max_running: how many of its tasks may run in the fleet; None: any number.
    """

    tenant: str = DEFAULT_TENANT
    workflows: Sequence[str] = ()
    at: float = 0.0
    cost: float = 1.0
    taken: int = 0
    max_running: int | None = None


class Order(NamedTuple):
    """In which order tenants are served.

    Attributes:
        turns: those that are looked at; the default tenant's is one of them.
        version: of the turns, as told last; None: whatever it is now, take what there is in these queues.
        is_all: whether these are all that the worker knows of.
        after: of more queues than one answer tells of it is told of those from this tenant on, then from the first.
    """

    turns: Sequence[Turn] = (Turn(),)
    version: int | None = 0
    is_all: bool = True
    after: str = ""


# Of a worker that knows of no other tenants.
ALONE = Order()


@dataclass(frozen=True, slots=True)
class Turned:
    """There are queues that the worker did not know of, or tenants' limits have changed: nothing was taken.

    Attributes:
        version: up to which it knows all, once it knows this.
        is_cut: whether there are more queues than these.
        queues: tenant and workflow of each that has tasks, of the workflows asked for; not the default tenant's.
        tenants: those tenants, and the default one.
    """

    version: int
    is_cut: bool
    queues: list[tuple[str, str]]
    tenants: list[TenantRecord]


@dataclass(frozen=True, slots=True)
class Claims:
    """What one look at the queue gave.

    Attributes:
        next_due: when the next task of those looked at is due; None: unknown. 0 says that there is more to look at, at
            once.
        turned: what the worker must know before it takes anything.
        empty: tenant and workflow of queues that have no tasks any more.
        waiting: tenants for which there was no slot left.
        held_up: tenants that wait for room of a workflow that has a bound of its own, each with one such workflow.
        passed_over: tenants that were not looked at, since others took all there was before their turn.
    """

    taken: list[Claim]
    next_due: timedelta | None
    turned: Turned | None = None
    empty: Sequence[tuple[str, str]] = ()
    waiting: Sequence[str] = ()
    held_up: Mapping[str, str] = field(default_factory=dict)
    passed_over: Sequence[str] = ()


def ask(
    keys: Keys, worker: WorkerId, free: int, room: Mapping[str, int | Room], order: Order
) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of `claim.lua`."""
    names = [*keys.of_terms, keys.workers, keys.running(worker), keys.tenants]
    version = "" if order.version is None else order.version
    args: list[Any] = [
        worker, min(free, MOST_CLAIMED), IN_TURN, version, int(order.is_all), order.after, len(room), len(order.turns),
    ]  # fmt: skip
    flows: dict[str, int] = {}
    for workflow, most in room.items():
        flows[workflow] = len(flows) + 1
        places = most if isinstance(most, Room) else Room(most)
        args += [workflow, places.places, places.max_running or 0]
    queues: list[int] = []
    # The default tenant's stand first: of each workflow there is one, which has the doorbell.
    for number, turn in enumerate(order.turns, 1):
        args += [turn.tenant, repr(turn.at), repr(turn.cost), turn.taken, turn.max_running or 0]
        if turn.tenant == DEFAULT_TENANT:
            queues = [item for flow in flows.values() for item in (flow, number)] + queues
        else:
            queues += [item for workflow in turn.workflows for item in (flows[workflow], number)]
    names += [key for workflow in flows for key in keys.queue_of(workflow)]
    for turn in order.turns:
        if turn.tenant != DEFAULT_TENANT:
            names += [key for workflow in turn.workflows for key in keys.queue_of(queue_name(turn.tenant, workflow))]
    return names, [*args, *queues]


def read_reply(reply: Sequence[Any]) -> Claims:
    """Return what `claim.lua` says to a worker that has a lease."""
    if reply[0] == b"turned":
        return Claims([], timedelta(), _read_turned(reply))
    _, next_ms, empty, waiting, held_up, passed_over, *rows = reply
    claims = [
        Claim(TaskRef.from_member(member), workflow.decode(), timedelta(milliseconds=waited), bool(has_terms))
        for member, workflow, waited, has_terms in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True)
    ]
    return Claims(
        claims,
        timedelta(milliseconds=next_ms) if next_ms >= 0 else None,
        None,
        [_split(name.decode()) for name in empty],
        [name.decode() for name in waiting],
        {name.decode(): workflow.decode() for name, workflow in zip(held_up[::2], held_up[1::2], strict=True)},
        [name.decode() for name in passed_over],
    )


def _read_turned(reply: Sequence[Any]) -> Turned:
    _, version, is_cut, names, tenants, packed = reply
    queues = [name.decode().split("/") for name in names]
    return Turned(
        version,
        bool(is_cut),
        [(tenant, workflow) for workflow, tenant in queues],
        [parse_tenant(tenant.decode(), said) for tenant, said in zip(tenants, packed, strict=True)],
    )


def _split(name: str) -> tuple[str, str]:
    tenant, _, workflow = name.partition("/")
    return tenant, workflow
